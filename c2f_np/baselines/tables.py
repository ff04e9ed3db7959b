"""The table models as estimators: BPR-MF, LightGCN, and three ways to make LightGCN small.

Shapes
------
N = U + I entities, users first     d : embedding width
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import scipy.sparse as sparse
from sklearn.utils.validation import check_is_fitted

from ..archive import Array
from ..data import Dataset
from ..engine import engine_named
from ..errors import SettingsError
from ..estimator import Baseline, EmbeddingRecommender, RandomState, validation_share
from ..files import FilePath
from ..model.graph import normalised_adjacency
from ..model.propagation import propagate
from ..model.sampling import require_something_to_rank
from ..schema import LIMITS, checked_values, described
from ..serving.compact import INT8
from ..serving.exporting import places
from ..serving.new_users import Splitter, splitter_of_table
from ..settings import LR_SCHEDULES, TABLE_STARTS
from ..threads import working_threads
from ..training import train_or_refit
from ..training.loop import Progress
from .stored import BIAS_BYTES, SCALE_BYTES, Parameters, in_bytes, in_numbers, layout_in_bytes, storage
from .table_stage import FullTable, HashedTable, QuotientRemainderTable, Table, TableProblem, TableStage, TableState, table_phase

_COLUMNS = ("epoch", "bpr", "regulariser", "loss", "validation_ndcg@5", "seconds")


@dataclass(eq=False, repr=False, kw_only=True)
class TableRecommender(Baseline, EmbeddingRecommender):
    """What all table models share: their parameters, training and scoring. A subclass says which table.

    Parameters
    ----------
    random_state : int, RandomState or Generator, optional
        Of start, sampling and what is set aside for validation. None is 0: training is reproducible unless you vary it.
    engine, n_jobs, verbose
        As for every :class:`c2f_np.estimator.Baseline`.

    Attributes
    ----------
    parameters_ : dict of str to ndarray
        The trained arrays, in the state with the best validation NDCG@5; with ``stored_as="int8"`` the bytes that are kept of
        them, each table with its columns' scales beside it ("embeddings" and "embeddings.scale").
    embeddings_ : ndarray, shape (N, d)
        Propagated.
    """

    dim: int = described(64, "embedding width d", low=1)
    n_layers: int = described(3, "propagation layers L", low=0)
    item_bias: bool = described(False, "whether each item has a bias of its own")
    lr: float = described(2e-2, "learning rate of Adam", low=0.0)
    l2: float = described(5.0, "factor of the regulariser", low=0.0)
    decay: float = described(1e-4, "weight of the regulariser in the loss", low=0.0)
    batch: int = described(16384, "triples in a batch", low=1)
    neg_size: int = described(5, "negative items for each positive one", low=1)
    eval_every: int = described(4, "epochs between evaluations", low=1)
    patience: int = described(15, "evaluations without improvement that end training", low=1)
    max_epochs: int = described(80, "most epochs", low=1)
    lr_schedule: str = described("steps", "learning rate over the epochs, as that of the model", choices=LR_SCHEDULES)
    table_start: str = described(
        "svd", "start of the table: normal numbers, or singular vectors of the interactions", choices=TABLE_STARTS
    )
    start_scale: float = described(0.1, "standard deviation of the ego embeddings, where they start normal", low=0.0)
    max_grad_value: float = described(3.0, "gradients are clipped to plus or minus this", above=0)
    random_state: RandomState = None
    dtype: str = described("float32", "precision of training", choices=("float32", "float64"))
    stored_as: str = storage()
    validation_fraction: float = validation_share()

    def _learn(
        self,
        data: Dataset,
        epochs: dict[str, int] | None,
        after_epoch: Callable[[Progress], None] | None = None,
    ) -> dict[str, int]:
        table, problem = self._posed(data.train, data)
        phase = table_phase(table, problem)
        done, epochs = train_or_refit([phase], epochs, problem, after_epoch=self._watched(after_epoch))
        state: Any = done.result.state
        self._set_parameters(self._kept(state.arrays, table), phase.stage, problem)
        self.best_epoch_ = done.result.epoch
        self.history_ = [{name: row[name] for name in _COLUMNS} for row in done.history]
        return epochs

    def _made_for(self, n_users: int, n_items: int) -> tuple[Table, Self]:
        """The table for so many users and items, and the parameters with the width that it has."""
        # In their declared types: a number of NumPy's would raise the precision of everything that it multiplies.
        settings = dataclasses.replace(self, **checked_values(self))
        return settings._table(n_users, n_items), dataclasses.replace(settings, dim=settings._width(n_users, n_items))

    def _posed(self, R: sparse.csr_array, data: Any) -> tuple[Table, TableProblem]:
        """The table, and what is trained on; of a file there are no data."""
        table, settings = self._made_for(*R.shape)
        require_something_to_rank(R)
        A = normalised_adjacency(R).astype(self.dtype)
        return table, TableProblem(data, settings, R, A, engine_named(self.engine))

    def _made_splitter(self) -> Splitter:
        table, problem = self._posed(self.interactions_, None)
        Z, L = table.ego(in_numbers(self.parameters_, self.dtype)), problem.settings.n_layers
        M = L * propagate(Z, problem.A, L - 1) if L else Z
        return splitter_of_table(Z, M[problem.n_users :], places(self.interactions_.copy()), L)

    def _packed(self) -> dict[str, np.ndarray]:
        return dict(self.parameters_)

    def _layout(self, n_users: int, n_items: int) -> tuple[dict[str, Array], dict[str, int]]:
        table, settings = self._made_for(n_users, n_items)
        layout = settings._layout_of(table, n_items)
        return layout_in_bytes(layout) if self._in_bytes else layout, {"d": settings.dim}

    def _layout_of(self, table: Any, n_items: int) -> dict[str, Array]:
        """That of the arrays from which :func:`c2f_np.baselines.stored.in_bytes` makes bytes; `self` has the table's width."""
        shapes = table.shapes(self.dim) | ({"item_bias": (n_items,)} if self.item_bias else {})
        return {name: Array(self.dtype, shape) for name, shape in shapes.items()}

    def _restore(self, arrays: dict[str, np.ndarray], path: FilePath) -> None:
        table, problem = self._posed(self.interactions_, None)
        self._set_parameters(arrays, TableStage(table, problem.settings.n_layers, tuple(arrays), problem.engine), problem)

    @property
    def _in_bytes(self) -> bool:
        return self.stored_as == INT8

    def _kept(self, trained: Parameters, table: Any) -> Parameters:
        """What the model keeps of the trained arrays."""
        return in_bytes(trained) if self._in_bytes else trained

    def _set_parameters(self, kept: Parameters, stage: Any, problem: TableProblem) -> None:
        state = TableState(in_numbers(kept, self.dtype), problem.n_users + problem.n_items)
        with working_threads(problem.threads, self.engine):
            self.embeddings_ = stage.forward(state, stage.graph(state, problem.A)).H_entities
        self.parameters_ = kept

    def size_in_bytes(self) -> dict[str, int]:
        """The trained arrays, each under its name. What is propagated is computed from them and the interactions."""
        check_is_fitted(self, "interactions_")
        parts = {name: value.nbytes for name, value in self.parameters_.items()}
        return parts | {"model": sum(parts.values())}

    def _table(self, n_users: int, n_items: int) -> Table:
        return FullTable(n_users + n_items)

    def _width(self, n_users: int, n_items: int) -> int:
        return self.dim

    def _biases(self) -> tuple[None, np.ndarray | None, float]:
        return None, in_numbers(self.parameters_, self.dtype).get("item_bias"), 0.0

    def _bytes_of(self, n_items: int) -> tuple[int, int, int]:
        """What the model's parts weigh: a number of a table, the scale of a column, and all item biases."""
        number = np.dtype(self.dtype).itemsize
        sizes = (1, SCALE_BYTES, BIAS_BYTES) if self._in_bytes else (number, 0, number)
        return sizes[0], sizes[1], sizes[2] * n_items * self.item_bias

    def _rows_for(self, budget: int, n_items: int, fewest: int, n_tables: int = 1) -> int:
        """How many rows so many bytes leave for tables of the model's width, at least `fewest`."""
        number, scale, biases = self._bytes_of(n_items)
        others = biases + n_tables * self.dim * scale
        n_rows: int = (budget - others) // (number * self.dim)
        if n_rows < fewest:
            rows = "one row" if fewest == 1 else f"{fewest} rows"
            least = fewest * self.dim * number + others
            raise SettingsError(f"bytes = {budget} is too little for {rows} of width {self.dim}: at least {least}")
        return n_rows


@dataclass(eq=False, repr=False, kw_only=True)
class LightGCN(TableRecommender):
    """A row for every user and every item, propagated over the graph: what the compressed models compress."""


@dataclass(eq=False, repr=False, kw_only=True)
class WidthRecommender(TableRecommender):
    """A row for every user and every item, as wide as a budget lets it be.

    Parameters
    ----------
    bytes : int, optional
        Most that the model may weigh; the width follows from it. By default ``dim`` counts.
    """

    bytes: int | None = described(None, "most that the model may weigh; the width follows", low=1)

    def _width(self, n_users: int, n_items: int) -> int:
        if self.bytes is None:
            return self.dim
        n = n_users + n_items
        number, scale, biases = self._bytes_of(n_items)
        column = n * number + scale
        if self.bytes < biases + column:
            what = f"one column for {n} users and items: at least {biases + column}"
            raise SettingsError(f"bytes = {self.bytes} is too little for {what}")
        return min((self.bytes - biases) // column, LIMITS["dim"])


@dataclass(eq=False, repr=False, kw_only=True)
class BPRMF(WidthRecommender):
    """Matrix factorisation with the BPR loss: own rows for users and items, item biases, no graph."""

    n_layers: int = described(0, "propagation layers; none is what makes it matrix factorisation", low=0, high=0)
    item_bias: bool = described(True, "whether each item has a bias of its own")
    l2: float = described(50.0, "factor of the regulariser; without a graph it takes more of it", low=0.0)


@dataclass(eq=False, repr=False, kw_only=True)
class NarrowLightGCN(WidthRecommender):
    """The plainest compression: the same table with fewer columns."""

    dim: int = described(8, "embedding width d, where bytes is not given", low=1)


@dataclass(eq=False, repr=False, kw_only=True)
class HashedLightGCN(TableRecommender):
    """Users and items share a codebook: each is the sum of ``n_hashes`` rows that hash functions choose.

    Parameters
    ----------
    bytes : int, optional
        Most that the model may weigh; the number of rows follows from it. By default ``n_rows`` counts.
    n_rows, n_hashes : int
    """

    dim: int = described(16, "embedding width d: many short rows do better than few long ones", low=1)
    n_rows: int = described(200, "rows of the codebook, where bytes is not given", low=1)
    table_start: str = described("normal", "start of the rows, which are no entity's own", choices=("normal",))
    n_hashes: int = described(2, "rows that an entity is the sum of", low=1)
    bytes: int | None = described(None, "most that the model may weigh; the number of rows follows", low=1)

    def _table(self, n_users: int, n_items: int) -> Table:
        n_rows = self.n_rows
        if self.bytes is not None:
            n_rows = min(self._rows_for(self.bytes, n_items, 1), LIMITS["n_rows"])
        return HashedTable(n_users + n_items, n_rows, self.n_hashes, self.seed, self.dtype, self.engine)


@dataclass(eq=False, repr=False, kw_only=True)
class QuotientRemainderLightGCN(TableRecommender):
    """Every entity is the entrywise product of a quotient row and a remainder row; users and items are numbered jointly.

    Parameters
    ----------
    bytes : int, optional
        Most that the model may weigh; as many remainder rows are taken as fit with the quotient rows they need.
    n_remainders : int, optional
        Where bytes is not given; by default as many as make the fewest rows in all, about sqrt(N).
    """

    dim: int = described(16, "embedding width d: many short rows do better than few long ones", low=1)
    n_remainders: int | None = described(None, "remainder rows m, where bytes is not given", low=1)
    table_start: str = described("normal", "start of the rows, which are no entity's own", choices=("normal",))
    bytes: int | None = described(None, "most that the model may weigh; the number of rows follows", low=1)

    def _table(self, n_users: int, n_items: int) -> Table:
        n = n_users + n_items
        n_remainders = self.n_remainders
        if self.bytes is not None:
            n_rows = self._rows_for(self.bytes, n_items, _rows(n, _fewest_rows(n)), n_tables=2)
            n_remainders = _most_remainders(n, n_rows)
        return QuotientRemainderTable(n, _fewest_rows(n) if n_remainders is None else min(n_remainders, n))


def _rows(n_entities: int, n_remainders: int) -> int:
    """Rows of both tables."""
    return n_remainders + -(-n_entities // n_remainders)


def _fewest_rows(n_entities: int) -> int:
    """The number of remainder rows with which there are fewest rows in all."""
    root = math.isqrt(n_entities)
    return min(range(1, root + 2), key=lambda m: (_rows(n_entities, m), -m))


def _most_remainders(n_entities: int, n_rows: int) -> int:
    """The largest m with m + ceil(N / m) <= n_rows."""
    return max(m for m in range(1, min(n_rows, n_entities) + 1) if _rows(n_entities, m) <= n_rows)
