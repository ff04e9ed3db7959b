"""docs/explore: what the page computes is what the package computes, and what it says of it is so."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sparse
from numpy.testing import assert_allclose, assert_array_equal

from c2f_np.model import text
from c2f_np.model.codebook import (
    bridge,
    bridge_backward_assignment,
    bridge_backward_gate,
    soft_threshold,
    soft_threshold_backward_tau,
)
from c2f_np.model.graph import normalised_adjacency
from c2f_np.model.joint import joint_forward, joint_gradients, joint_graph
from c2f_np.model.loss import Triples, batch_loss, batch_loss_backward, score_pairs
from c2f_np.model.propagation import in_rows, propagate_backward
from c2f_np.model.step import ModelState

#: They open a browser.
pytestmark = pytest.mark.slow

STATIC = Path(__file__).resolve().parents[2] / "docs" / "_static"
R = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 1, 1, 1]])
n_users, n_items = R.shape
TRIPLES = Triples.from_items([0, 0, 1, 2], [0, 1, 2, 3], [2, 3, 0, 0], n_users, n_items)
WEIGHTS = dict(l2=5, decay=0.01)
SHAPES = {"E_c": (3, 2), "E_f": (2, 2), "S_c": (7, 3), "S_d": (7, 2), "S_f": (3, 2), "F": (2, 2), "E_hat": (3, 2), "Y": (7, 2),
          "Z": (7, 2), "H": (7, 2), "scores": (3, 4), "b": (8, 1)}  # fmt: skip
LAYERS = [0, 1, 2, 3, 4, 5, 6, 8, 12, 20, 50, 100]
#: What every cell shows, and what stands beside each other below the sliders.
READ = """() => ({
  cells: [...document.querySelectorAll("[data-at]")].map(cell => [cell.dataset.at, +cell.dataset.value, +cell.dataset.gradient,
    cell.classList.contains("x-moved"), cell.innerText.split(/\\s+/)]),
  A: [...document.querySelectorAll("[data-A]")].map(cell => +cell.dataset.value),
  compared: Object.fromEntries([...document.querySelectorAll("[data-compared]")].map(row => [row.dataset.compared,
    [+row.dataset.derivative, +row.dataset.difference, row.lastChild.textContent]])),
  loss: ["loss", "bpr", "penalty"].map(name => +document.getElementById("explore").dataset[name]),
  slopes: [...document.querySelectorAll("[data-slope]")].map(cell => +cell.dataset.slope),
  curve: document.querySelector("[data-losses]").dataset.losses.split(",").map(Number),
  weight: +document.getElementById("x-weight").value,
  notes: document.getElementById("x-notes").innerText,
  lit: [...document.querySelectorAll(".x-node.x-lit")].map(node => node.dataset.node),
  cut: [...document.querySelectorAll(".x-arrow.x-cut")].map(arrow => arrow.dataset.arrow),
})"""
#: The contrast of every text with what is behind it, as WCAG defines it; what cannot be used at the moment is exempt.
CONTRASTS = """() => {
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const luminance = colour => numbers(colour).slice(0, 3).map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, k) => sum + c * [0.2126, 0.7152, 0.0722][k], 0);
  const behind = element => {
    const box = element.closest(".x-node")?.querySelector("rect");
    if (box) return getComputedStyle(box).fill;
    const colour = getComputedStyle(element).backgroundColor;
    return (numbers(colour)[3] ?? 1) === 1 ? colour : behind(element.parentElement);
  };
  const found = [];
  for (const element of document.querySelectorAll("#explore *")) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!own || element.closest(".x-off, .x-spoken")) continue;
    const style = getComputedStyle(element), front = element instanceof SVGElement ? style.fill : style.color;
    const [dark, light] = [luminance(front), luminance(behind(element))].sort((a, b) => a - b);
    found.push([(light + 0.05) / (dark + 0.05), element.className.baseVal ?? element.className, element.textContent]);
  }
  return found;
}"""
#: What is wider than the page; the adjacency scrolls in a box of its own.
STICKING_OUT = """() => {
  const page = document.getElementById("explore"), right = page.getBoundingClientRect().right;
  return [...page.querySelectorAll("*")]
    .filter(each => each.getBoundingClientRect().right > right + 1 && !each.closest(".x-wide"))
    .map(each => each.outerHTML.slice(0, 80));
}"""
#: What lies in the middle of an element.
ON_TOP = """id => {
  const { x, y, width, height } = document.getElementById(id).getBoundingClientRect();
  return document.elementFromPoint(x + width / 2, y + height / 2)?.id;
}"""


@pytest.fixture(scope="module")
def opened(browser, tmp_path_factory):
    """The page's own part of the page, from a file, without the site around it."""
    folder = tmp_path_factory.mktemp("explore")
    for name in ("explore_model.js", "explore.js", "explore.css"):
        shutil.copy(STATIC / name, folder)
    (folder / "page.html").write_text(
        '<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="explore.css"><div id="explore"></div>'
        '<script src="explore_model.js"></script><script src="explore.js"></script>',
        encoding="utf-8",
    )
    page, trouble = browser.new_page(), []
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("console", lambda message: trouble.append(message.text))
    page.set_default_timeout(5000)
    page.goto((folder / "page.html").as_uri())
    yield page
    assert trouble == []
    page.close()


@pytest.fixture
def page(opened):
    opened.click("[data-try=start]")
    return opened


def choose(page, cell):
    page.locator(f"input[value='{cell}']").dispatch_event("click")


def move(page, chosen=None, direct=True, **positions):
    """Move sliders, by the values that they stand for."""
    page.locator("#x-direct").set_checked(direct)
    if chosen:
        choose(page, chosen)
    for name, value in positions.items():
        position = {"L": LAYERS.index, "h": lambda h: round(-np.log10(h))}.get(name, float)(value)
        page.locator(f"#x-{name}").fill(f"{position:g}")


def read(page):
    """Values and gradients by name, as arrays; NaN where there is no link."""
    found = page.evaluate(READ)
    values, gradients, moved = ({name: np.full(shape, np.nan) for name, shape in SHAPES.items()} for _ in range(3))
    for at, value, gradient, moves, _ in found["cells"]:
        name, *place = at.split(",")
        for numbers, number in ((values, value), (gradients, gradient), (moved, moves)):
            numbers.setdefault(name, np.full((n_users + n_items, 2), np.nan))[tuple(map(int, place))] = number
    return found | {"values": values, "gradients": gradients, "moved": moved}


def links(weights):
    rows, columns = np.nonzero(~np.isnan(weights))
    return sparse.csr_array((weights[rows, columns], (rows, columns)), shape=weights.shape)


def dense(S, like):
    """Stored weights in their places, NaN elsewhere."""
    return np.where(np.isnan(like), np.nan, S.toarray())


def of_package(at, tau, g, L, direct=True):
    """Everything that the page shows, by the package, for the weights `at`."""
    S_c, S_d, S_f = (links(at[name]) for name in ("S_c", "S_d", "S_f"))
    bias, bias_global = at["b"][:-1, 0], at["b"][-1]
    # With g = 1 the package has no coarse codebook, and that of the page affects nothing.
    state = ModelState(at["E_c"] if g < 1 else at["E_c"][:0], S_c, bias, bias_global, at["E_f"], S_f, S_d if direct else None)
    A = normalised_adjacency(R)
    graph = joint_graph(A, state, g, engine=text)
    settings = dict(threshold=tau, n_layers=L)
    forward = joint_forward(state.E_coarse, state.E_fine, graph, **settings)
    loss, slope = batch_loss(forward, bias, bias_global, TRIPLES, **WEIGHTS, engine=text)
    gradients = joint_gradients(forward, slope, state.E_fine, graph, TRIPLES, **settings, **WEIGHTS)

    F = soft_threshold(at["E_f"], tau)
    layers = [forward.Z]
    for _ in range(L):
        layers.append(A @ layers[-1])
    users, items = np.divmod(np.arange(n_users * n_items), n_items)
    scores = score_pairs(forward.H_entities, bias, bias_global, users, n_users + items).reshape(R.shape)
    Y = np.arctanh(forward.Z)
    values = {"F": F, "E_hat": bridge(at["E_c"], S_f, F, g), "Y": Y, "Z": forward.Z, "H": forward.H_entities, "scores": scores}
    values |= {f"X{k}": X for k, X in enumerate(layers)}

    grad_H = in_rows(batch_loss_backward(forward, slope, TRIPLES, engine=text)[0], TRIPLES.entities, n_users + n_items)
    grad_Z = gradients["Y"] / (1 - forward.Z**2)
    grad_E_hat = S_c.T @ gradients["Y"]
    grad_F = (S_d.T @ gradients["Y"] if direct else 0) + g * (S_f.T @ grad_E_hat)
    grad_S_d = sparse.csr_array((gradients["S_direct"] if direct else 0 * S_d.data, S_d.indices, S_d.indptr), shape=S_d.shape)
    expected = {
        "E_c": gradients["E_coarse"] if g < 1 else 0 * at["E_c"], "E_f": gradients["E_fine"], "H": grad_H, "Z": grad_Z,
        "Y": gradients["Y"], "F": grad_F, "E_hat": grad_E_hat,
        "b": np.append(gradients["bias"], gradients["bias_global"])[:, None],
        "S_c": dense(sparse.csr_array((gradients["S_coarse"], S_c.indices, S_c.indptr), shape=S_c.shape), at["S_c"]),
        "S_d": dense(grad_S_d, at["S_d"]),
        "S_f": dense(bridge_backward_assignment(grad_E_hat, S_f, F, g), at["S_f"]),
    }  # fmt: skip
    # What layer k has of the gradient: its own share and those of the layers after it.
    for k in range(L + 1):
        expected[f"X{k}"] = (L - k + 1) / (L + 1) * propagate_backward(grad_H, A, L - k)
    scalars = {"tau": soft_threshold_backward_tau(grad_F, at["E_f"], tau),
               "g": bridge_backward_gate(grad_E_hat, at["E_c"], S_f, F)}  # fmt: skip
    return values, expected, scalars, [loss.total, loss.bpr, WEIGHTS["decay"] * loss.regulariser], slope


@pytest.mark.parametrize(
    ("sliders", "moves"),
    [
        (dict(tau=0.4, g=0.3, L=2), {}),
        (dict(tau=0, g=0, L=0), {}),
        (dict(tau=0.2, g=0.45, L=1), dict(chosen="S_c,2,2", weight=-1.15)),
        (dict(tau=0.75, g=1, L=3), dict(chosen="E_c,1,0", weight=1.7)),
        (dict(tau=0.6, g=0.3, L=4), dict(chosen="S_d,5,1", weight=2)),
        (dict(tau=0.35, g=0.8, L=12), dict(chosen="S_f,2,0", weight=0.05)),
        (dict(tau=0.4, g=0.3, L=2, direct=False), dict(chosen="E_f,1,0", weight=-1.4)),
        (dict(tau=0.1, g=0, L=5, direct=False), {}),
        (dict(tau=0.4, g=0.3, L=100), dict(chosen="E_f,0,1", weight=0.4)),
    ],
)
def test_every_number_is_the_packages(page, sliders, moves):
    move(page, **moves, **sliders)
    found = read(page)
    at = found["values"]
    if moves:
        name, *place = moves["chosen"].split(",")
        assert at[name][tuple(map(int, place))] == moves["weight"]
    values, gradients, scalars, loss, slope = of_package(at, **sliders)
    shown = [f"X{k}" for k in range(sliders["L"] + 1)]
    shown = shown if len(shown) <= 5 else shown[:3] + shown[-2:]
    assert {name for name in at if name.startswith("X")} == set(shown)
    for name in [*shown, "F", "E_hat", "Y", "Z", "H", "scores"]:
        assert_allclose(at[name], values[name], rtol=1e-10, atol=1e-12, err_msg=name)
    for name in [*shown, "E_c", "E_f", "S_c", "S_d", "S_f", "b", "F", "E_hat", "Y", "Z", "H"]:
        assert_allclose(found["gradients"][name], gradients[name], rtol=1e-10, atol=1e-12, err_msg=name)
    for name, derivative in scalars.items():
        assert_allclose(found["compared"][name][0], derivative, rtol=1e-10, atol=1e-12)
    assert_allclose(found["loss"], loss, rtol=1e-12)
    assert_allclose(found["slopes"], slope, rtol=1e-12)
    # The curve goes through the point.
    assert_allclose(found["curve"][round((found["weight"] + 2) * 20)], loss[0], rtol=1e-13)
    assert_allclose(np.reshape(found["A"], 2 * (n_users + n_items,)), normalised_adjacency(R).toarray(), rtol=1e-15)


def test_gradient_of_the_scores(page):
    found = read(page)
    slopes, expected = found["slopes"], np.zeros(R.shape)
    for s, u, i, j in zip(slopes, TRIPLES.user, TRIPLES.positive, TRIPLES.negative, strict=True):
        expected[u, i - n_users] -= s
        expected[u, j - n_users] += s
    assert_allclose(found["gradients"]["scores"], expected, rtol=1e-12)


def test_cells_show_their_numbers_rounded(page):
    move(page, L=100)
    for at, value, gradient, _, shown in page.evaluate(READ)["cells"]:
        for number, digits, text_ in zip((value, gradient), (3, 4), shown, strict=True):
            assert abs(float(text_.replace("−", "-")) - number) <= 0.5 * 10**-digits, at


@pytest.mark.parametrize("sliders", [{}, dict(L=100), dict(g=0, tau=0.2), dict(g=1, L=0), dict(direct=False, tau=0)])
def test_difference_beside_every_derivative(page, sliders):
    move(page, **sliders)
    chosen = page.evaluate(
        """() => [...document.querySelectorAll("#explore input[type=radio]:not(:disabled)")].map(radio => {
          radio.click();
          return [radio.value, ...[...document.querySelectorAll("[data-compared]")].map(row => [+row.dataset.derivative,
            +row.dataset.difference, row.lastChild.textContent])];
        })"""
    )
    assert len(chosen) == 30 + 7 * sliders.get("direct", True)
    gradients = read(page)["gradients"]
    for cell, *rows in chosen:
        name, *place = cell.split(",")
        assert rows[0][0] == gradients[name][tuple(map(int, place))]
        for derivative, difference, gap in rows:
            assert abs(derivative - difference) < 1e-9 and gap != "kink", cell


def test_dead_zone(page):
    page.click("[data-try=dead]")
    found = read(page)
    assert found["compared"]["E_f"] == [0, 0, "0"] and "In the dead zone" in found["notes"]
    assert found["lit"] == [] and found["cut"] == ["E_f-F"]
    for alive in (dict(tau=0.25), dict(weight=-0.45)):
        page.click("[data-try=dead]")
        move(page, **alive)
        found = read(page)
        assert found["compared"]["E_f"][0] != 0 and found["notes"] == "" and found["cut"] == []


def test_kink(page):
    page.click("[data-try=kink]")
    derivative, difference, gap = (found := read(page))["compared"]["E_f"]
    outside = found["gradients"]["F"][0, 0]
    assert derivative == 0 and gap == "kink" and "At a kink" in found["notes"]
    assert abs(difference - outside / 2) < 1e-6 < outside
    # The threshold has the same kink; the gate has none.
    assert found["compared"]["tau"][2] == "kink" and found["compared"]["g"][2] != "kink"
    choose(page, "S_c,0,0")
    assert "A kink elsewhere" in page.evaluate(READ)["notes"]
    move(page, chosen="E_f,0,0", weight=0.45)
    assert read(page)["compared"]["E_f"][2] != "kink"
    move(page, h=0.1)
    assert read(page)["compared"]["E_f"][2] == "kink"
    # Without a threshold there is no kink, but the convention gives 0 to an entry that is 0.
    move(page, h=1e-5, tau=0, weight=0)
    found = read(page)
    assert found["compared"]["E_f"][0] == 0 != found["compared"]["E_f"][1] and "A convention" in found["notes"]


def test_without_a_bridge(page):
    page.click("[data-try=bridge]")
    found = read(page)
    assert found["compared"]["E_f"][0] != 0 and "No bridge" in found["notes"]
    assert np.nansum(abs(found["gradients"]["S_f"])) == 0 and found["cut"] == ["F-E_hat"]
    page.click("[data-try=neither]")
    found = read(page)
    for name in ("E_f", "F", "S_f"):
        assert np.nansum(abs(found["gradients"][name])) == 0
    assert found["cut"] == ["F-E_hat", "F-Y"] and "No gradient for the fine codebook" in found["notes"]
    move(page, direct=False, g=0.05)
    assert read(page)["compared"]["E_f"][0] != 0
    move(page, g=1)
    found = read(page)
    assert np.sum(abs(found["gradients"]["E_c"])) == 0 and "No coarse codebook" in found["notes"]


def test_many_layers(page):
    def cosines(H):
        H = H / np.linalg.norm(H, axis=1, keepdims=True)
        return np.min(H @ H.T)

    few = read(page)["values"]
    page.click("[data-try=layers]")
    found = read(page)
    many = found["values"]
    assert cosines(few["H"]) < 0.9 and cosines(many["H"]) > 0.99 and "Rows become alike" in found["notes"]
    orders = np.argsort(-many["scores"], axis=1)
    assert_array_equal(orders, [[1, 2, 0, 3]] * n_users)
    assert len(np.unique(np.argsort(-few["scores"], axis=1), axis=0)) > 1
    # A single layer goes on alternating.
    assert np.linalg.norm(many["X100"] - many["X99"]) > 0.1
    degrees = np.append(R.sum(axis=1), R.sum(axis=0))
    lengths = np.linalg.norm(many["H"], axis=1) / np.sqrt(degrees)
    assert np.ptp(lengths) < 0.1 * np.mean(lengths)


def test_step_of_the_difference(page):
    def error(h):
        move(page, h=h)
        derivative, difference, _ = read(page)["compared"]["E_f"]
        return abs(derivative - difference)

    large, medium, small, tiny = (error(h) for h in (1e-1, 1e-2, 1e-5, 1e-12))
    assert 90 < large / medium < 110 and small < 1e-9
    assert 1e-6 < tiny < 1e-3
    assert "A small step" in page.evaluate(READ)["notes"]


@pytest.mark.parametrize("L", [0, 1, 2])
def test_shaded_cells_are_those_that_the_weight_moves(page, L):
    move(page, chosen="S_c,0,0", L=L)
    found = read(page)
    assert_array_equal(found["moved"]["Z"].all(axis=1), [True] + [False] * 6)
    reached = sum(np.linalg.matrix_power(normalised_adjacency(R).toarray(), k) for k in range(L + 1))[:, 0] > 0
    assert_array_equal(found["moved"]["H"].all(axis=1), reached)
    assert not found["moved"]["F"].any() and not found["moved"]["E_hat"].any()
    assert reached.sum() == (1, 3, 5)[L]


@pytest.mark.parametrize(
    ("cell", "way"),
    [
        ("E_f,0,0", ["F", "E_hat", "Y", "Z", "H", "scores", "loss"]),
        ("E_c,0,0", ["E_hat", "Y", "Z", "H", "scores", "loss"]),
        ("S_f,0,0", ["E_hat", "Y", "Z", "H", "scores", "loss"]),
        ("S_d,0,0", ["Y", "Z", "H", "scores", "loss"]),
    ],
)
def test_lit_way(page, cell, way):
    choose(page, cell)
    assert sorted(read(page)["lit"]) == sorted(way)
    # Row f2 of F is 0 with this threshold.
    move(page, tau=0.75, chosen="S_d,1,1")
    found = read(page)
    assert found["lit"] == [] and found["cut"] == ["S_d-Y"] and "A link to nothing" in found["notes"]


@pytest.mark.parametrize("cell", ["E_c,1,0", "E_f,1,1", "E_f,0,1", "S_c,1,2", "S_c,4,1", "S_d,2,0", "S_f,2,1"])
def test_how_the_derivative_is_made(page, cell):
    move(page, chosen=cell, g=0.35, L=1)
    found = read(page)
    derivative = found["compared"][cell[:3]][0]
    # Symbols first, then numbers, then the result; of E_f no symbols.
    *_, numbers, result = page.locator("#x-how").inner_text().split(":")[0].replace("−", "-").replace("·", "*").split(" = ")
    assert abs(float(result) - derivative) <= 0.5e-4
    assert abs(eval(numbers) - derivative) <= 2e-4 and "*" in numbers


def test_keyboard(page):
    page.focus("#x-tau")
    page.keyboard.press("ArrowRight")
    assert page.locator("#x-tau-shown").text_content() == "0.45"
    page.focus("#x-L")
    page.keyboard.press("End")
    assert page.locator("#x-L").get_attribute("aria-valuetext") == "100"
    choose(page, "S_c,0,1")
    page.focus("input[value='S_c,0,1']")
    for key, cell in [("ArrowDown", "S_c,1,1"), ("ArrowDown", "S_c,3,1"), ("ArrowUp", "S_c,1,1"), ("ArrowRight", "S_c,1,2")]:
        page.keyboard.press(key)
        assert page.evaluate("[document.activeElement.value, document.activeElement.checked]") == [cell, True]
    assert page.locator("#x-weight-name").text_content() == "Sc[u2, c3]"
    page.keyboard.press("Tab")
    # One stop for all weights.
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"


def test_no_direct_links_and_none_chosen(page):
    choose(page, "S_d,0,0")
    move(page, direct=False)
    assert page.locator("input[value='S_d,0,0']").is_disabled()
    assert list(read(page)["compared"]) == ["E_f", "tau", "g"]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_the_site(site, browser, scheme):
    page = browser.new_page()
    page.emulate_media(color_scheme=scheme)
    for width in (1280, 320):
        page.set_viewport_size({"width": width, "height": 800})
        page.goto((site / "docs" / "explore" / "index.html").as_uri())
        assert page.evaluate("document.documentElement.dataset.theme") == scheme
        for name in ("start", "kink", "neither", "layers"):
            page.click(f"[data-try={name}]")
            page.mouse.move(0, 0)
            found = page.evaluate(CONTRASTS)
            assert len(found) > 200
            assert [each for each in found if each[0] < 4.5] == []
            assert page.evaluate(STICKING_OUT) == []
        # Far down the page the sliders are still in view, and nothing lies over them.
        choose(page, "S_c,6,0")
        page.focus("input[value='S_c,6,0']")
        assert page.evaluate("scrollY") > 500
        for name in ("tau", "g", "L", "weight"):
            assert page.evaluate(ON_TOP, f"x-{name}") == f"x-{name}"
    page.close()
