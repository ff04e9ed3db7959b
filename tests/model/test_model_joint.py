"""Joint training's stage: literal numbers, a dense reference, both engines. (Its gradients: `gradcheck --op joint_stage`.)"""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sparse
from model_rules import at_each_number_of_threads
from numpy.testing import assert_allclose, assert_array_equal

from c2f_np import kernels
from c2f_np.model import text
from c2f_np.model.codebook import raised_threshold, soft_threshold
from c2f_np.model.graph import normalised_adjacency
from c2f_np.model.joint import exchange, joint_codebook, joint_forward, joint_gradients, joint_graph, relinked
from c2f_np.model.links import exchange_links
from c2f_np.model.loss import Triples, batch_loss
from c2f_np.model.step import ModelState, fresh_moments

WEIGHTS = dict(l2=5, decay=1e-2)
ENGINES = pytest.mark.parametrize("engine", [text, kernels], ids=["numpy", "numba"])
#: Bridge weight, direct links of an entity, soft threshold.
PARTS = [(0.0, 0, 0.0), (0.0, 2, 0.0), (0.0, 1, 0.4), (0.3, 0, 0.4), (0.3, 2, 0.4), (0.3, 1, 0.0), (1.0, 2, 0.4)]


def rows_of(rng, n, k, t):
    columns = np.sort(np.argsort(rng.random((n, k)), axis=1)[:, :t], axis=1)
    return sparse.csr_array((rng.normal(size=n * t), columns.ravel(), np.arange(0, n * t + 1, t)), shape=(n, k))


def problem(gate, t_direct, seed=0, n_users=5, n_items=7, c=4, m=3, d=3, t=2, dtype=np.float64):
    rng = np.random.default_rng(seed)
    R = sparse.csr_array((rng.random((n_users, n_items)) < 0.5).astype(dtype))
    n = n_users + n_items
    state = ModelState(rng.normal(size=(c, d)), rows_of(rng, n, c, t), rng.normal(size=n), np.ones(1))
    E_fine, S_fine, S_direct = rng.normal(size=(m, d)), rows_of(rng, c, m, 2), rows_of(rng, n, m, max(t_direct, 1))
    if gate or t_direct:
        E_coarse = state.E_coarse if gate < 1 else state.E_coarse[:0]
        state = replace(state, E_coarse=E_coarse, E_fine=E_fine)
        state = replace(state, S_fine=S_fine if gate else None, S_direct=S_direct if t_direct else None)
    parts = {name: None if part is None else part.astype(dtype) for name, part in vars(state).items()}
    # The last user and the last item are not in the batch.
    triples = Triples.from_items(*(rng.integers(0, k - 1, 8) for k in (n_users, n_items, n_items)), n_users, n_items)
    return normalised_adjacency(R, dtype), ModelState(**parts), triples


def loss_and_gradients(A, state, triples, gate, threshold, n_layers=2, batch=None, engine=text, of_weights=True):
    graph = joint_graph(A, state, gate, engine=engine)
    settings = dict(threshold=threshold, n_layers=n_layers)
    forward = joint_forward(state.E_coarse, state.E_fine, graph, batch=batch, **settings)
    loss, slope = batch_loss(forward, state.bias, state.bias_global, triples, **WEIGHTS, engine=engine)
    gradients = joint_gradients(
        forward, slope, state.E_fine, graph, triples, **settings, **WEIGHTS, of_weights=of_weights
    )
    return forward, loss, gradients


def dense_forward(A, state, gate, threshold, n_layers):
    """Z and H once more: no kernels, no sparse matrices, no links side by side."""
    E_hat, Y = state.E_coarse, 0
    if state.E_fine is not None:
        F = np.sign(state.E_fine) * np.maximum(np.abs(state.E_fine) - threshold, 0)
        if state.S_fine is not None:
            E_hat = gate * state.S_fine.toarray() @ F + ((1 - gate) * state.E_coarse if gate < 1 else 0)
        if state.S_direct is not None:
            Y = state.S_direct.toarray() @ F
    Z = np.tanh(state.S_coarse.toarray() @ E_hat + Y)
    layers = [Z]
    for _ in range(n_layers):
        layers.append(A.toarray() @ layers[-1])
    return Z, np.mean(layers, axis=0)


@ENGINES
def test_by_hand(engine):
    """One user and one item who met: A exchanges them, and one layer makes both the mean of the two."""
    A = normalised_adjacency(sparse.csr_array([[1.0]]))
    state = ModelState(
        np.array([[2.0]]), sparse.csr_array([[1.0], [0.5]]), np.zeros(2), np.zeros(1),
        np.array([[3.0], [-1.5]]), sparse.csr_array([[0.5, 0.0]]), sparse.csr_array([[0.25, 0.0], [0.0, 2.0]]),
    )  # fmt: skip
    graph = joint_graph(A, state, 0.25, engine=engine)
    forward = joint_forward(state.E_coarse, state.E_fine, graph, threshold=1.0, n_layers=1)
    # F = [2, -0.5];  E_hat = 0.25 * 0.5 * 2 + 0.75 * 2;  Y = [E_hat + 0.25 * 2, 0.5 E_hat - 2 * 0.5]
    assert_allclose(forward.codebook, [[1.75], [2.0], [-0.5]])
    z = np.tanh([2.25, -0.125])
    assert_allclose(forward.Z, z[:, None])
    assert_allclose(forward.H_entities, [[z.mean()], [z.mean()]])


@ENGINES
@pytest.mark.parametrize("width", [3, 16, 48])
@pytest.mark.parametrize(("gate", "t_direct", "threshold"), PARTS)
def test_dense_reference(gate, t_direct, threshold, width, engine):
    A, state, triples = problem(gate, t_direct, d=width)
    for n_layers in (0, 1, 3) if width == 3 else (2,):
        forward, _, _ = loss_and_gradients(A, state, triples, gate, threshold, n_layers, engine=engine)
        Z, H = dense_forward(A, state, gate, threshold, n_layers)
        assert_allclose(forward.Z, Z, rtol=0, atol=1e-13)
        assert_allclose(forward.H_entities, H, rtol=0, atol=1e-13)


@pytest.mark.parametrize("width", [3, 48])
@pytest.mark.parametrize(("gate", "t_direct", "threshold"), PARTS)
def test_engines_and_batch_rows(gate, t_direct, threshold, width):
    A, state, triples = problem(gate, t_direct, d=width)
    before = [part.data.copy() if sparse.issparse(part) else part.copy() for part in vars(state).values() if part is not None]
    whole, loss, gradients = loss_and_gradients(A, state, triples, gate, threshold)
    entities = triples.entities
    for engine in (text, kernels):
        for batch in (None, triples):
            forward, found, others = loss_and_gradients(A, state, triples, gate, threshold, batch=batch, engine=engine)
            expected = whole.H_entities if batch is None else whole.H_entities[entities]
            assert_allclose(forward.H_entities, expected, rtol=0, atol=1e-13)
            assert_allclose([found.bpr, found.regulariser], [loss.bpr, loss.regulariser], rtol=1e-13)
            assert list(others) == list(gradients)
            for name, gradient in gradients.items():
                assert others[name].shape == gradient.shape
                assert_allclose(others[name], gradient, rtol=0, atol=1e-13, err_msg=f"{engine.__name__} {name}")
    first, *others = at_each_number_of_threads(
        lambda: loss_and_gradients(A, state, triples, gate, threshold, batch=triples, engine=kernels)[2]
    )
    for other in others:
        for name in gradients:
            assert_array_equal(first[name], other[name])
    parts = [part for part in vars(state).values() if part is not None]
    for part, copy in zip(parts, before, strict=True):
        assert_array_equal(part.data if sparse.issparse(part) else part, copy)


@ENGINES
@pytest.mark.parametrize(("gate", "t_direct", "threshold"), PARTS)
def test_single_precision_stays_single(gate, t_direct, threshold, engine):
    arguments = problem(gate, t_direct, dtype=np.float32)
    forward, _, gradients = loss_and_gradients(*arguments, gate, threshold, batch=arguments[2], engine=engine)
    parts = (forward.codebook, forward.Z, forward.H_entities, *gradients.values())
    assert {part.dtype for part in parts} == {np.dtype(np.float32)}
    _, _, exact = loss_and_gradients(*problem(gate, t_direct), gate, threshold)
    for name in exact:
        assert_allclose(gradients[name], exact[name], atol=1e-4)


@pytest.mark.parametrize("gate", [0.3, 1.0])
@pytest.mark.parametrize("t_direct", [0, 2])
def test_gradient_of_the_bridge_by_hand(gate, t_direct):
    """g <G_i, F_j> of every stored weight, with G = S_c^T G_Y; and of the coarse codebook only what there is of it."""
    A, state, triples = problem(gate, t_direct)
    gradients = loss_and_gradients(A, state, triples, gate, 0.4)[2]
    F, G = soft_threshold(state.E_fine, 0.4), state.S_coarse.toarray().T @ gradients["Y"]
    rows = np.repeat(np.arange(4), 2)
    assert_allclose(gradients["S_fine"], gate * np.sum(G[rows] * F[state.S_fine.indices], axis=1), rtol=1e-12)
    assert_allclose(gradients["E_coarse"], (1 - gate) * G if gate < 1 else np.zeros((0, 3)), rtol=1e-12)


def test_what_the_bridge_is_found_anew_for():
    """Free coarse rows would move along their gradient by `reach`; the bridge follows as far as it can."""
    A, state, triples = problem(1.0, 0, m=4, d=4, c=6)
    graph, rng = joint_graph(A, state, 1.0, engine=text), np.random.default_rng(3)
    state = replace(state, E_fine=np.eye(4))  # pursuit keeps the two largest entries of what it is to code
    grad_Y = rng.normal(size=(12, 4))
    state = replace(state, S_coarse=rows_of(rng, 12, 6, 1))  # a single link, which is never exchanged
    graph = relinked(graph, state)
    moments = fresh_moments(state.parameters(("S_fine",)))
    ones = replace(moments, mean={"S_fine": np.arange(1.0, 13)}, square={"S_fine": np.arange(1.0, 13)})
    G = state.S_coarse.toarray().T @ grad_Y
    size = np.sqrt(np.mean(G**2, axis=1, keepdims=True))
    size[size == 0] = 1  # nothing is linked to such a row
    for reach in (0.0, 0.3, 100.0):
        after, moved = exchange(state, ones, graph, grad_Y, 1, threshold=0.0, reach=reach)
        target = state.S_fine.toarray() - reach * G / size
        smallest = np.sort(np.abs(target), axis=1)[:, 1:2]
        assert_allclose(after.S_fine.toarray(), np.where(np.abs(target) > smallest, target, 0), atol=1e-6)
        old, new = (sparse.csr_array((values, S.indices, S.indptr), shape=(6, 4)).toarray()
                    for values, S in ((ones.mean["S_fine"], state.S_fine), (moved.mean["S_fine"], after.S_fine)))  # fmt: skip
        stays = (after.S_fine.toarray() != 0) & (state.S_fine.toarray() != 0)
        assert_array_equal(new, np.where(stays, old, 0))
    # A coarse row that nothing pulls at, and one that is better off as it is, stay.
    after, _ = exchange(state, ones, graph, np.zeros((12, 4)), 1, threshold=0.0, reach=9.0)
    assert_array_equal(after.S_fine.toarray(), state.S_fine.toarray())


def test_gradient_at_the_composition_gives_that_of_links_that_are_not_there():
    """<grad_Y_i, E_j> is the slope of the loss along any weight (i, j), stored or not: what an exchange decides by."""
    A, state, triples = problem(0.3, 2)
    forward, _, gradients = loss_and_gradients(A, state, triples, 0.3, 0.4)
    E_hat, F = forward.codebook[:4], forward.codebook[4:]
    for name, rows in (("S_coarse", E_hat), ("S_direct", F)):
        for i, j in np.ndindex(12, len(rows)):
            dense = getattr(state, name).toarray().astype(complex)
            dense[i, j] += 1e-30j
            parts = {"S_coarse": state.S_coarse.toarray(), "S_direct": state.S_direct.toarray()} | {name: dense}
            Z = np.tanh(parts["S_coarse"] @ E_hat + parts["S_direct"] @ F)
            H = (Z + A.toarray() @ Z + A.toarray() @ (A.toarray() @ Z)) / 3
            moved = replace(forward, Z=Z, H_entities=H)
            loss, _ = batch_loss(moved, state.bias, state.bias_global, triples, **WEIGHTS, engine=text)
            assert abs(loss.total.imag / 1e-30 - gradients["Y"][i] @ rows[j]) < 1e-14


def test_without_a_fine_codebook_it_is_the_composed_coarse_codebook_propagated():
    A, state, triples = problem(0.0, 0)
    forward, _, gradients = loss_and_gradients(A, state, triples, 0.0, 0.4)
    Z, dense = np.tanh(state.S_coarse @ state.E_coarse), A.toarray()
    assert_array_equal(forward.codebook, state.E_coarse)
    assert_allclose(forward.H_entities, (Z + dense @ Z + dense @ dense @ Z) / 3, rtol=1e-13)
    assert "E_fine" not in gradients and "S_direct" not in gradients


def test_the_bridge_says_nothing_that_a_coarse_codebook_cannot_say():
    """E_hat is a C x d matrix: put in the place of E_c, without a fine codebook, it gives the same embeddings and scores."""
    A, state, triples = problem(0.3, 0)
    bridged, loss, _ = loss_and_gradients(A, state, triples, 0.3, 0.4)
    absorbed = replace(state, E_coarse=bridged.codebook, E_fine=None, S_fine=None)
    assert absorbed.E_coarse.shape == state.E_coarse.shape and np.abs(absorbed.E_coarse - state.E_coarse).max() > 0.1
    alone, loss_alone, _ = loss_and_gradients(A, absorbed, triples, 0.0, 0.0)
    assert_array_equal(alone.H_entities, bridged.H_entities)
    assert loss_alone == loss


def test_direct_links_say_what_no_coarse_codebook_can_say_with_the_same_assignment():
    """S_c E_c has at most rank C, whatever E_c is; [S_c, S_d] [E_c; F] has more, so no E_c can take its place."""
    A, state, triples = problem(0.0, 2, c=2, m=3, d=6, t=1)
    forward, _, _ = loss_and_gradients(A, state, triples, 0.0, 0.0)
    S = state.S_coarse.toarray()
    Y = S @ state.E_coarse + state.S_direct.toarray() @ state.E_fine
    assert_allclose(forward.Z, np.tanh(Y), rtol=1e-12)
    assert np.linalg.matrix_rank(S) == 2 and np.linalg.matrix_rank(Y) == 5
    best = S @ np.linalg.lstsq(S, Y, rcond=None)[0]
    assert np.linalg.norm(best - Y) > 0.3 * np.linalg.norm(Y)


@ENGINES
@pytest.mark.parametrize(("gate", "t_direct", "threshold"), PARTS)
def test_gradients_of_weights_can_be_left_out(gate, t_direct, threshold, engine):
    arguments = (*problem(gate, t_direct), gate, threshold)
    every, some = (loss_and_gradients(*arguments, engine=engine, of_weights=wanted)[2] for wanted in (True, False))
    weights = {"S_coarse"} | ({"S_direct"} if t_direct else set()) | ({"S_fine"} if gate else set())
    assert every.keys() - some.keys() == weights
    for name, gradient in some.items():
        assert_array_equal(gradient, every[name], err_msg=name)


def test_a_table_is_a_codebook_whose_every_row_one_entity_has():
    """Z = tanh(E), and the gradient of the codebook is that of Y."""
    A, state, triples = problem(0.0, 0, c=12, t=1)
    itself = sparse.csr_array((np.ones(12), np.arange(12), np.arange(13)), shape=(12, 12))
    forward, _, gradients = loss_and_gradients(A, replace(state, S_coarse=itself), triples, 0.0, 0.0)
    assert_array_equal(forward.Z, np.tanh(state.E_coarse))
    assert_array_equal(gradients["E_coarse"], gradients["Y"])


def test_entries_inside_the_threshold_have_no_gradient():
    A, state, triples = problem(0.3, 2)
    gradient = loss_and_gradients(A, state, triples, 0.3, 0.4)[2]["E_fine"]
    inside = np.abs(state.E_fine) <= 0.4
    assert inside.any() and not gradient[inside].any() and gradient[~inside].all()


@ENGINES
@pytest.mark.parametrize(("gate", "t_direct"), [(0.3, 2), (0.3, 0), (0.0, 1)])
def test_out_of_an_open_dead_zone_leads_the_gradient_at_F(engine, gate, t_direct):
    """That of a codebook F behind no threshold, by differences; also where the entry is dead."""
    A, state, triples = problem(gate, t_direct)
    graph = joint_graph(A, state, gate, engine=engine)
    forward = joint_forward(state.E_coarse, state.E_fine, graph, threshold=0.4, n_layers=2)
    _, slope = batch_loss(forward, state.bias, state.bias_global, triples, **WEIGHTS, engine=engine)
    options = {"threshold": 0.4, "n_layers": 2, "dead_zone": "open"} | WEIGHTS
    found = joint_gradients(forward, slope, state.E_fine, graph, triples, **options)["E_fine"]
    F = soft_threshold(state.E_fine, 0.4)
    assert found[F == 0].any()
    for entry in np.ndindex(F.shape):
        losses = []
        for h in (1e-5, -1e-5):
            moved = F.copy()
            moved[entry] += h
            losses.append(loss_and_gradients(A, replace(state, E_fine=moved), triples, gate, 0.0)[1].total)
        assert abs((losses[0] - losses[1]) / 2e-5 - found[entry]) < 1e-8


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_threshold_is_raised_as_far_as_it_must_be(dtype):
    E = np.array([[0.1, -0.5, 0.3, 0.0], [-0.9, 0.5, 2.0, -0.4]], dtype)
    for density, tau in ((1.0, 0.0), (0.99, 0.0), (0.75, 0.1), (0.5, 0.4), (0.49, 0.5), (0.3, 0.5), (0.2, 0.9), (0.1, 2.0)):
        found = raised_threshold(E, 0.0, density)
        assert found == dtype(tau) and np.mean(np.abs(E) > found) <= density
        assert raised_threshold(E, 0.6, density) == max(0.6, found)


def test_links_of_another_state():
    """After a step or an exchange, the graph with new links is the graph that would be built anew."""
    A, state, _ = problem(0.3, 2)
    graph = joint_graph(A, state, 0.3, engine=text)
    rows = joint_codebook(state.E_coarse, state.E_fine, graph, threshold=0.4)
    exchanged = exchange_links(state.S_direct, rows[4:], np.ones((12, 3))).S
    assert (exchanged.indices != state.S_direct.indices).any()
    moved = replace(state, S_coarse=2 * state.S_coarse, S_fine=3 * state.S_fine, S_direct=exchanged)
    changed, anew = relinked(graph, moved), joint_graph(A, moved, 0.3, engine=text)
    assert changed.A is graph.A
    for one, other in ((changed.links, anew.links), (changed.S_fine, anew.S_fine)):
        assert_array_equal(one.matrix.toarray(), other.matrix.toarray())
        assert_array_equal(one.transpose.toarray(), other.transpose.toarray())
    assert_array_equal(changed.S_fine.matrix.toarray(), 3 * state.S_fine.toarray())
    assert_array_equal(changed.links.matrix.toarray(), np.hstack([2 * state.S_coarse.toarray(), exchanged.toarray()]))
