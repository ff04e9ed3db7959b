"""Data: reading files, splitting, evaluation protocols, the shipped and the fetched data sets.

A path or name becomes :class:`Interactions` (or a :class:`Split`, if the data come with one), these become a
:class:`Split`, and a protocol makes it a :class:`Dataset`. :func:`load_dataset` does all of it.
"""

from .catalog import DatasetInfo, dataset_info, list_datasets
from .dataset import PROTOCOLS, Dataset
from .fetch import cached, data_folder, fetch
from .interactions import Interactions
from .lightgcn import read_lightgcn, read_lightgcn_file, write_lightgcn
from .load import FORMATS, SPLITS, load_dataset, read_interactions
from .movielens import read_ratings_dat, read_u_data
from .planted import PlantedParameters, PlantedTruth, generate_planted
from .protocols import apply_protocol
from .shipped import load_truth, write_shipped
from .southern_women import southern_women_split
from .splits import Split, split_none, split_random, split_temporal
from .tables import read_csv, read_recbole

__all__ = [
    "FORMATS",
    "PROTOCOLS",
    "SPLITS",
    "Dataset",
    "DatasetInfo",
    "Interactions",
    "PlantedParameters",
    "PlantedTruth",
    "Split",
    "apply_protocol",
    "cached",
    "data_folder",
    "dataset_info",
    "fetch",
    "generate_planted",
    "list_datasets",
    "load_dataset",
    "load_truth",
    "read_csv",
    "read_interactions",
    "read_lightgcn",
    "read_lightgcn_file",
    "read_ratings_dat",
    "read_recbole",
    "read_u_data",
    "southern_women_split",
    "split_none",
    "split_random",
    "split_temporal",
    "write_lightgcn",
    "write_shipped",
]
