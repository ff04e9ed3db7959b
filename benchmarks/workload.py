"""A problem of some size, with the states, graphs and batches that the parts of the benchmark work on.

Shapes: see `c2f_np.model` and `c2f_np.training`.
"""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np

from c2f_np.data import Dataset, load_dataset
from c2f_np.engine import engine_named
from c2f_np.model.loss import Triples
from c2f_np.model.sampling import sample_triples
from c2f_np.model.starts import start_fine
from c2f_np.model.step import AdamMoments, ModelState, fresh_moments, train_step
from c2f_np.settings import Settings
from c2f_np.training.loop import Phase, begin, training_graph
from c2f_np.training.phases import phases_of
from c2f_np.training.problem import Problem, pose

from .plan import Plan
from .sizes import SIZES, Size, like, synthetic

# The two stages of the paper; and what the default preset trains: both codebooks at once, after a row for every entity.
STAGES = ("coarse", "fine")
JOINT = ("joint", "table")
# Steps are measured on several batches in turn: none of them must be what a cache remembers.
N_BATCHES = 4


class Workload:
    """Data and settings of one size; everything else is made when it is first asked for, and kept.

    Parameters
    ----------
    size : Size
    data : Dataset
    is_synthetic : bool
    threads : int
    """

    def __init__(self, size: Size, data: Dataset, is_synthetic: bool, threads: int):
        self.size, self.data, self.is_synthetic, self.threads = size, data, is_synthetic, threads
        self._problems, self._states = cache(self._pose), cache(self._start)
        self._graphs, self.batches = cache(self._build), cache(self._draw)

    def settings(self, engine: str = "numba", dtype: str = "float32", stage: str = "coarse") -> Settings:
        """At this size: the preset of the released code, or for joint training the default one, its phase `stage` alone."""
        sizes = dataclasses.asdict(self.size)
        fields = {name: sizes[name] for name in sizes if name not in ("name", "n_users", "n_items", "n_train")}
        # Parts drawn at random: the time of a step does not depend on who belongs together, and METIS need not be installed.
        fields |= {"partition": "random", "engine": engine, "dtype": dtype, "threads": self.threads, "eval_every": 1}
        if stage not in JOINT:
            return Settings.preset("authors", **fields)
        for name in ("t_coarse", "t_fine", "coarse_batch", "fine_batch"):
            del fields[name]
        phases = {"partition_epochs": 0} | ({"table_epochs": 0} if stage == "joint" else {})
        return Settings.preset("default", **fields, **phases)

    def problem(self, engine: str = "numba", dtype: str = "float32", stage: str = "coarse") -> Problem:
        """Data and settings as training wants them."""
        return self._problems(engine, dtype, "coarse" if stage == "fine" else stage)

    def batch_size(self, stage: str) -> int:
        """What the preset trains a stage with."""
        settings = self.settings(stage=stage)
        return settings.fine_batch if stage == "fine" else settings.coarse_batch

    def state(self, stage: str, dtype: str = "float32") -> ModelState:
        """The first state of a stage."""
        return self._states(stage, dtype)

    def graph(self, stage: str, engine: str = "numba", dtype: str = "float32"):
        """The graph of :meth:`state`."""
        return self._graphs(stage, engine, dtype)

    def _pose(self, engine: str, dtype: str, stage: str) -> Problem:
        return pose(self.data, self.settings(engine, dtype, stage))

    def _start(self, stage: str, dtype: str) -> ModelState:
        problem = self.problem(dtype=dtype, stage=stage)
        if stage == "fine":
            return start_fine(self.state("coarse", dtype), problem.R, problem.settings).astype(dtype)
        return begin(phases_of(problem.settings, problem.engine), problem).state

    def _build(self, stage: str, engine: str, dtype: str):
        problem, state = self.problem(engine, dtype, stage), self.state(stage, dtype)
        return training_graph(self.phase(stage, engine, dtype).stage, state, problem)

    def _draw(self, size: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Batches of triples as entity numbers."""
        R = self.problem().R
        n_draws = -(-N_BATCHES * size // self.settings().neg_size) + 64
        columns = sample_triples(R, n_draws, self.settings().neg_size, 1, engine=engine_named("numpy"))
        order = np.random.default_rng(1).permutation(len(columns[0]))[: N_BATCHES * size].reshape(N_BATCHES, size)
        shifts = (0, self.data.n_users, self.data.n_users)
        return [
            tuple(column[chosen].astype(np.int64) + shift for column, shift in zip(columns, shifts, strict=True))
            for chosen in order
        ]

    def triples(self, batch, engine: str = "numba") -> Triples:
        """A batch as a training step wants it; new every time, as in training."""
        return Triples(*batch, self.data.n_users + self.data.n_items, engine_named(engine).sort_slots)

    def phase(self, stage: str, engine: str = "numba", dtype: str = "float32") -> Phase:
        """The phase in which a stage is trained, with assignment updates if it has them."""
        problem = self.problem(engine, dtype, stage)
        return next(phase for phase in phases_of(problem.settings, problem.engine) if phase.name == stage)

    def moments(self, stage: str, dtype: str = "float32") -> AdamMoments:
        """Adam's moments before the first step of a stage."""
        return fresh_moments(self.state(stage, dtype).parameters(self.phase(stage, dtype=dtype).stage.trained))

    def step(self, stage: str, engine: str = "numba", dtype: str = "float32"):
        """The training step of a stage.

        Returns
        -------
        callable
            From (state, moments, graph, triples) to (state, moments, graph, losses); the two stages take ``update_assignment``.
        """
        problem, phase = self.problem(engine, dtype, stage), self.phase(stage, engine, dtype)
        settings = problem.settings
        weights = {"l2": settings.l2, "decay": settings.decay, "clip": settings.max_grad_value}

        def step(state, moments, graph, triples, *, update_assignment=False):
            done = train_step(
                phase.stage, state, moments, graph, triples,
                **weights, learning_rate=phase.learning_rate, update_assignment=update_assignment,
            )  # fmt: skip
            graph = training_graph(phase.stage, done.state, problem) if done.graph is None else done.graph
            return done.state, done.moments, graph, done.losses

        return step

    def describe(self) -> dict:
        """Sizes, for the result."""
        return {
            "synthetic": self.is_synthetic,
            "fingerprint": self.data.fingerprint()[:16],
            **dataclasses.asdict(self.size),
            "nodes_coarse_graph": self.data.n_users + self.data.n_items + self.size.n_coarse,
            "entries_coarse_graph": 2 * int(self.data.train.nnz) + 2 * self.size.t_coarse * sum(self.data.train.shape),
            "largest_user_degree": int(np.diff(self.data.train.indptr).max()),
            "largest_item_degree": int(np.bincount(self.data.train.indices).max()),
        }


def workload_of(name: str, plan: Plan) -> Workload:
    """The workload of a named size, or of the plan's data set with the hyper-parameters of that size."""
    size = SIZES[name]
    if plan.data is None:
        return Workload(size, synthetic(size), True, plan.threads)
    data = load_dataset(plan.data)
    return Workload(like(size, data), data, False, plan.threads)
