"""Data: reading files, splitting, evaluation protocols, the shipped and the fetched data sets.

A path, a name or a data frame becomes :class:`Interactions` (`readers`, `named`, `shipped`, `frames`), these become a
:class:`Split` (`splits`; some sources come with one), and a protocol makes a :class:`Dataset` of it. :func:`load_dataset` does
all of this.
"""

from .dataset import PROTOCOLS, Dataset
from .frames import read_frame, read_parquet
from .interactions import Interactions
from .load import FORMATS, LOAD_OPTIONS, SPLITS, load_dataset, read_interactions
from .named import DatasetInfo, cached, data_folder, dataset_info, fetch, list_datasets
from .readers import read_csv, read_lightgcn, read_lightgcn_file, read_ratings_dat, read_recbole, read_u_data, write_lightgcn
from .shipped import PlantedParameters, PlantedTruth, generate_planted, load_truth, southern_women_split, write_shipped
from .splits import Split, apply_protocol, split_none, split_random, split_temporal

__all__ = [
    "FORMATS",
    "LOAD_OPTIONS",
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
    "read_frame",
    "read_interactions",
    "read_lightgcn",
    "read_lightgcn_file",
    "read_parquet",
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
