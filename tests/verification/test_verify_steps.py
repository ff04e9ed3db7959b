"""The reference by hand; the steps that train are held to it in every configuration, and wrong ones are noticed."""

import ast
import dataclasses
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sparse
from numpy.testing import assert_allclose, assert_array_equal

from c2f_np.baselines import table_stage
from c2f_np.model import coarse, fine, joint, loss
from c2f_np.training.phases import phases_of
from c2f_np.verification import epochs, points, problems, reference, stages, steps
from c2f_np.verification.case import depends_on_all
from c2f_np.verification.catalogue import cases

pytestmark = pytest.mark.gradcheck

STEPS = ("coarse_step", "fine_step", "joint_step", "table_step")
QUICK = [(op, "numpy") for op in STEPS[:2]]
OPTIONS = {
    "coarse_step": points.COARSE | steps.MOMENTS, "fine_step": points.FINE | steps.MOMENTS,
    "joint_step": points.JOINT | steps.MOMENTS | steps.TURNS, "table_step": points.TABLES | steps.MOMENTS,
    "coarse_stage": stages.COARSE, "fine_stage": stages.FINE, "joint_stage": stages.JOINT, "table_model": stages.TABLES,
    "coarse_structure": points.COARSE, "fine_structure": points.FINE,
    "stages_training": epochs.STAGES, "joint_training": epochs.JOINT, "table_training": epochs.TABLES,
}  # fmt: skip


# ---- the reference -----------------------------------------------------------------------------------------------------
def test_the_reference_takes_nothing_from_the_package():
    with open(reference.__file__) as file:
        tree = ast.parse(file.read())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imports} == {
        "__future__", "types", "numpy",
    }  # fmt: skip


def test_a_step_by_hand():
    """One user, two items, he met the first; one coarse row that all are made of; no layer, so that H = Z = tanh(2)."""
    s = SimpleNamespace(n_layers=0, l2=3.0, decay=0.1, degree="signed", max_grad_value=0.2, t_coarse=1)
    p = {"E_coarse": np.array([[2.0]]), "S_coarse": np.ones((3, 1)), "bias": np.array([5.0, 0.0, np.log(3.0)]),
         "bias_global": np.array([7.0])}  # fmt: skip
    batch = (np.array([0]), np.array([1]), np.array([2]))
    moments = {name: (np.zeros(p[name].shape), np.zeros(p[name].shape)) for name in ("E_coarse", "bias", "bias_global")}
    A = reference.adjacency(np.array([[1.0, 0.0]]))
    assert_array_equal(A, [[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    found = reference.train_step("coarse", p, A, batch, s, moments, 1, 0.5, update=True)
    z = np.tanh(2)
    # The scores differ by the biases, log 3: softplus(log 3) = log 4 and its slope is 3/4.
    assert_allclose(found["losses"], [np.log(4), 9 * z**2], rtol=1e-14)
    assert_allclose(found["gradients"]["bias"], [0, -0.75, 0.75], rtol=1e-14)
    assert_allclose(found["gradients"]["E_coarse"], [[0.1 * 18 * z * (1 - z**2)]], rtol=1e-14)
    assert_array_equal(found["gradients"]["bias_global"], [0])
    assert_allclose(found["clipped"]["bias"], [0, -0.2, 0.2])
    # Adam's first step is the rate, whatever the gradient.
    assert_allclose(found["p"]["bias"], p["bias"] + [0, 0.5, -0.5], rtol=1e-6)
    assert_allclose(found["p"]["E_coarse"], [[1.5]], rtol=1e-6)
    # The new assignment is the least-squares weight z / 2, of the embeddings before the step.
    assert_allclose(found["p"]["S_coarse"], np.full((3, 1), z / 2), rtol=1e-14)


@pytest.mark.parametrize("layer_bridge", ["raw", "exchange"])
def test_a_bridged_layer_by_hand(layer_bridge):
    """One entity, one coarse and one fine row in a chain; X_hat as normalised from weights 1 and 3 of the two links."""
    s = SimpleNamespace(
        n_layers=1, gate=0.25, threshold=1.0, composition="bridged", layer_bridge=layer_bridge, degree="signed"
    )
    p = {"E_coarse": np.array([[2.0]]), "E_fine": np.array([[-3.0]]), "S_coarse": np.eye(1), "S_fine": np.array([[3.0]])}
    X_hat = reference.fine_graph(np.zeros((1, 1)), p, s)
    assert_allclose(X_hat, [[0, 0.5, 0], [0.5, 0, np.sqrt(3) / 2], [0, np.sqrt(3) / 2, 0]])
    Z, H = reference.fine(p, X_hat, s)
    start, f = 0.25 * 3 * -2 + 0.75 * 2, np.tanh(-2)  # F = -2, E_hat = 0
    assert start == 0 and Z == 0
    if layer_bridge == "raw":
        # h = p = r = 0 after the product but for p = sqrt(3)/2 f: p <- p - 3 r, r = 0; h <- h - p + (1 - g) p
        q = np.sqrt(3) / 2 * f
        expected = [-0.25 * q, 0.75 * q, 0]
    else:
        expected = [0.5 * 0.25 * 3 * f, np.sqrt(3) / 2 * f, 0]
    assert_allclose(H[:, 0], np.array([0, 0, f]) / 2 + np.array(expected) / 2, rtol=1e-14)


def test_links_exchanged_by_hand():
    S, links = np.array([[2.0, 0.5, 0, 0], [1.0, 0, 0, -3.0]]), np.array([[1, 1, 0, 0], [1, 0, 0, 1]], dtype=bool)
    E, pull = np.array([[1.0], [9.0], [-2.0], [1.0]]), np.array([[1.0], [0.0]])
    new, where = reference.exchange_links(S, links, E, pull)
    # Strengths 2 and 4.5: the first goes, and -2 pulls harder than 1. No pull, no exchange.
    assert_array_equal(where, [[False, True, True, False], [True, False, False, True]])
    assert_array_equal(new, [[0, 0.5, 0, 0], [1, 0, 0, -3]])


# ---- configurations ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("op", OPTIONS)
def test_every_value_of_every_option_occurs_and_seeds_differ(op):
    # The cases that take differences cover pairs of some options only, and draw the others.
    covered = {"coarse_stage": stages.CROSSED, "fine_stage": stages.CROSSED, "joint_stage": stages.CROSSED}.get(op, OPTIONS[op])
    # The engines share the cases that take differences.
    for engine in (None,) if op.endswith(("_stage", "_model")) else ("numpy", "numba"):
        names = [[case.variation for case in cases(op, engine, seed)] for seed in (0, 1)]
        assert names[0] != names[1]
        for variations in names:
            for position, (name, values) in enumerate(OPTIONS[op].items()):
                if name not in covered:
                    continue
                found = {variation.split(", ")[position] for variation in variations}
                assert {str(value) if isinstance(value, str) else f"{name} {value}" for value in values} <= found


def test_some_entries_are_clipped_and_some_are_not():
    rng = problems.generator(1, "clip")
    point = points.stage_point("coarse", "numpy", COARSE, rng)
    probe = {"E_coarse": rng.standard_normal(point.state.E_coarse.shape)}
    settings, _ = steps._clipped(rng, {"moments": "fresh"}, point.settings, probe, "E_coarse")
    clipped = np.abs(probe["E_coarse"]) / 0.1 > settings.max_grad_value
    assert 0 < clipped.mean() < 1


def test_a_state_whose_degrees_cancel_or_whose_scores_are_lost_is_not_sound():
    point = points.stage_point("coarse", "numpy", COARSE, problems.generator(1, "sound"))

    def changed(**parts):
        return dataclasses.replace(point, state=dataclasses.replace(point.state, **parts))

    S = point.state.S_coarse.toarray().astype(float)
    rows = np.flatnonzero(S[:, 0])
    cancelling, negative = S.copy(), S.copy()
    cancelling[rows[0], 0] = -0.99 * S[rows[1:], 0].sum()
    negative[rows[0], 0] *= -0.1
    assert points.is_sound(point) and points.is_sound(changed(S_coarse=sparse.csr_array(negative)))
    assert not points.is_sound(changed(S_coarse=sparse.csr_array(cancelling)))
    assert not points.is_sound(changed(E_coarse=200 * point.state.E_coarse))


def test_whether_a_value_depends_on_its_arguments():
    x, M = np.array([1.0, 2.0]), sparse.csr_array([[0.5, 0.0]])
    given = {"x": x, "y": x[::-1].copy(), "M": M}

    def forward(x, y, M):
        return x * 2 + (y - y), M @ x

    assert depends_on_all(forward, given, ["x", "M"]) and not depends_on_all(forward, given, ["x", "y"])


COARSE = {
    "n_layers": 3, "batch": "some", "width": "narrow", "dtype": "float32", "links": "two", "degree": "signed", "empty": False,
    "weights": "positive",
}  # fmt: skip


@pytest.mark.parametrize("schedule", ["cosine", "steps"])
def test_learning_rates_are_these_numbers(schedule):
    literal = {
        "cosine": [1, 0.9330127018922193, 0.75, 0.5, 0.25, 0.06698729810778076],
        "steps": [1, 1, 1, 1, 1 / 3, 0.1],
    }[schedule]
    rng = problems.generator(0, "rates")
    settings = points._settings(rng, COARSE, "numpy", lr_schedule=schedule, max_epochs=6)
    rates = {phase.name: [phase.rate_of(epoch) for epoch in range(6)] for phase in phases_of(settings, None)}
    for phase, rate in (("coarse", settings.coarse_lr), ("fine", settings.fine_lr)):
        assert_allclose(rates[phase], rate * np.array(literal), rtol=1e-14)
        assert rates[f"{phase}_phase1"] == [rate] * 6
    own = dataclasses.replace(settings, training="joint", fine_start="normal", table_epochs=6, partition_epochs=6, max_epochs=99)
    rates = {phase.name: [phase.rate_of(epoch) for epoch in range(6)] for phase in phases_of(own, None)}
    for phase in ("table", "partition"):
        assert_allclose(rates[phase], settings.start_lr * np.array(literal), rtol=1e-14)


# ---- wrong steps -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("op", "engine"),
    QUICK
    + [pytest.param(*each, marks=pytest.mark.slow) for each in product(STEPS, ("numpy", "numba")) if each not in QUICK],
)
def test_a_factor_of_1_001_in_float32_only_is_noticed(op, engine, monkeypatch):
    """Of the gradient of the data loss, from which all others follow."""
    right = loss.batch_loss_backward

    def wrong(*args, **options):
        grad_H, grad_bias, grad_bias_global = right(*args, **options)
        return grad_H * (1 if grad_H.dtype == np.float64 else grad_H.dtype.type(1.001)), grad_bias, grad_bias_global

    for module in (coarse, fine, joint, table_stage):
        monkeypatch.setattr(module, "batch_loss_backward", wrong)
    by_dtype = {"float32": [], "float64": []}
    for case in cases(op, engine, seed=3):
        by_dtype["float32" if "float32" in case.variation else "float64"].append(case.run(3).passed)
    assert all(by_dtype["float64"])
    # Where the codebook has no gradient, or a tiny batch is all rounding, there is nothing to notice.
    assert np.mean(by_dtype["float32"]) < 0.5
