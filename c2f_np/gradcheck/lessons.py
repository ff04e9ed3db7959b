"""What a gradient check sees and what it does not, measured: ``python -m c2f_np.gradcheck.lessons``.

Each lesson is a function that returns the lines it prints; ``docs/checking_gradients.md`` quotes them. Errors are
relative to the gradient's norm. Numbers at rounding level differ a little between machines and are printed as powers of
ten.
"""

from __future__ import annotations

import math

import numpy as np

from c2f_np.gradcheck import CheckSettings, check_gradients


def power(error: float) -> str:
    """An error as a power of ten."""
    return "0" if error == 0 else f"1e{round(math.log10(error)):+03d}"


def relative(found, right) -> float:
    """The error of a gradient relative to the norm of the right one."""
    return float(np.linalg.norm(np.subtract(found, right)) / np.linalg.norm(right))


def softplus(x):
    return np.log1p(np.exp(x))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def steps() -> list[str]:
    """The step: too large is wrong by truncation, too small by rounding; the complex step has no such choice."""
    x = np.random.default_rng(0).uniform(-2, 2, 2000)
    right = sigmoid(x)
    lines = ["step     one-sided  central  complex"]
    for exponent in (1, 3, 5, 6, 8, 10, 12, 30, 100):
        h = 10.0**-exponent
        one_sided = relative((softplus(x + h) - softplus(x)) / h, right)
        central = relative((softplus(x + h) - softplus(x - h)) / (2 * h), right)
        imaginary = relative(np.imag(softplus(x + 1j * h)) / h, right)
        lines.append(f"1e-{exponent:<5d}  {power(one_sided):9s}  {power(central):7s}  {power(imaginary)}")
    report = check_gradients(softplus, lambda g, x: g * sigmoid(x), x[:100])
    ladder = report.verdict("central_difference").figure
    lines.append(f"the ladder of steps of this checker: better than 1e-11: {ladder < 1e-11}")
    return lines


def ones() -> list[str]:
    """All-ones cotangents: rows of a softmax sum to 1, whatever the backward does."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((8, 5))

    def forward(x):
        e = np.exp(x - x.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    def wrong(g, x):  # the sign is wrong
        y = forward(x)
        return -y * (g - np.sum(g * y, axis=1, keepdims=True))

    def difference(c, h=1e-5):
        out = np.zeros_like(x)
        for i in np.ndindex(*x.shape):
            up, down = x.copy(), x.copy()
            up[i] += h
            down[i] -= h
            out[i] = np.sum(c * (forward(up) - forward(down))) / (2 * h)
        return out

    lines = []
    for name, c in (("all ones", np.ones_like(x)), ("random", rng.standard_normal(x.shape))):
        numerical, ours = difference(c), wrong(c, x)
        same = np.allclose(ours, numerical, atol=1e-8)
        size = abs(numerical).max()
        shown = f"{size:.1f}" if size > 1e-8 else "below 1e-8"
        lines.append(f"{name + ':':9s} largest entry {shown}, wrong sign accepted at atol=1e-8: {same}")
    return lines


def absolute() -> list[str]:
    """Absolute tolerances: the gradient of a mean over a batch of small embeddings is smaller than the tolerance."""
    rng = np.random.default_rng(2)
    users, liked, other = 0.001 * rng.standard_normal((3, 2048, 64))
    margin = np.sum(users * (liked - other), axis=1)
    gradient = -sigmoid(-margin)[:, None] * (liked - other) / margin.size  # of mean(softplus(-margin)) by users
    lines = [f"mean loss over 2,048 triples, embeddings of size 0.001: largest gradient entry {abs(gradient).max():.0e}"]
    for name, factor in (("0", 0.0), ("-g", -1.0)):
        accepted = np.allclose(factor * gradient, gradient, rtol=1e-5, atol=1e-5)
        lines.append(
            f"{name + ':':3s} accepted at atol=1e-5: {accepted}; error relative to the norm: "
            f"{relative(factor * gradient, gradient):.0f}"
        )
    return lines


def loose() -> list[str]:
    """Loose tolerances: whoever accepts 2 per cent accepts a gradient that is 1 per cent off. This checker notices."""
    x = np.linspace(0.1, 3, 9)
    lines = [f"np.allclose at rtol=2e-2 accepts 1.01 g: {np.allclose(1.01 * np.cos(x), np.cos(x), rtol=2e-2, atol=0)}"]
    for least in (0.9, 1.9):
        settings = CheckSettings(rate=least)
        report = check_gradients(np.sin, lambda g, x: g * np.cos(x), x, checks="taylor_rate", settings=settings)
        verdict = report.verdict("taylor_rate")
        lines.append(f"Taylor rate above {least} demanded: vacuous: {verdict.vacuous}; verdict: {verdict.status}")
    return lines


def transpose() -> list[str]:
    """Symmetric operators: a forgotten transpose is exactly right."""
    rng = np.random.default_rng(3)
    a = rng.standard_normal((6, 6))
    lines = []
    for name, operator in (("symmetric", a + a.T), ("not symmetric", a)):
        report = check_gradients(
            lambda x, p=operator: p @ x,
            lambda g, x, p=operator: p @ g,
            {"x": rng.standard_normal((6, 3))},
            linear_in="x",
        )
        gap = report.verdict("adjoint").figure
        shown = "below 1e-14" if gap < 1e-14 else f"{gap:.0e}"
        lines.append(f"{name + ':':14s} adjoint gap {shown}; passed: {report.passed}")
    return lines


def kinks() -> list[str]:
    """Kinks: a difference across a kink is not a derivative."""
    rng = np.random.default_rng(4)
    x, tau, h = rng.standard_normal(64_000), 0.5, 1e-5

    def forward(x):
        return np.where(x.real > tau, x - tau, np.where(x.real < -tau, x + tau, 0 * x))

    def branch(x):
        return (x > tau).astype(int) - (x < -tau)

    right = (abs(x) > tau).astype(float)
    numerical = (forward(x + h) - forward(x - h)) / (2 * h)
    crossing = (branch(x + h) != branch(x)) | (branch(x - h) != branch(x))
    imaginary = np.imag(forward(x + 1e-30j)) / 1e-30
    return [
        f"soft threshold, 64,000 entries, h = 1e-5: {crossing.sum()} entries cross",
        f"central difference, all entries:        {relative(numerical, right):.0e}",
        f"central difference, crossings left out: {power(relative(numerical[~crossing], right[~crossing]))}",
        f"complex step:                           {'below 1e-15' if relative(imaginary, right) < 1e-15 else 'above 1e-15'}",
    ]


def rate() -> list[str]:
    """The Taylor rate: 2 with the right gradient, 1 with any other."""
    x = np.random.default_rng(5).standard_normal(50)
    lines = []
    for factor in (1.0, 1.01, 1.00001):
        report = check_gradients(np.tanh, lambda g, x, k=factor: k * g * (1 - np.tanh(x) ** 2), x, checks="taylor_rate")
        lines.append(f"{factor:<7g} g: rate {report.verdict('taylor_rate').figure:.1f}")
    return lines


def small_entries() -> list[str]:
    """Small entries: an error relative to the norm does not see them; a rule for each entry does."""
    rng = np.random.default_rng(6)
    x = rng.standard_normal((5, 4)) * np.array([1, 1, 1, 1e-9])
    w = rng.standard_normal((4, 3))

    def backward(g, x):
        grad_w = x.T @ g
        grad_w[3] *= -1  # wrong sign in the row that belongs to the tiny column of x
        return grad_w

    report = check_gradients(lambda x, w: x @ w, backward, {"x": x, "w": w}, wrt="w", checks="central_difference")
    verdict = report.verdict("central_difference")
    return [
        f"a row of 1e-9 with the wrong sign: error relative to the norm {power(verdict.figure)}, tolerance "
        f"{verdict.tolerance:.0e}",
        f"with the rule for single entries: {verdict.status}",
    ]


def unvisited() -> list[str]:
    """Branches that no test point takes: no check sees them."""

    def backward(g, x):
        return np.where(x > 2.5, 0.0, g * (1 - np.tanh(x) ** 2))  # wrong above 2.5

    passed = 0
    for seed in range(100):
        x = np.random.default_rng(seed).standard_normal(50)
        passed += check_gradients(np.tanh, backward, x, seed=seed, checks="central_difference").passed
    return [f"a backward that is wrong above 2.5, at 50 normal numbers: passes at {passed} of 100 points"]


LESSONS = (steps, ones, absolute, loose, transpose, kinks, rate, small_entries, unvisited)


def main() -> None:
    """Print all lessons."""
    for lesson in LESSONS:
        print(f"== {lesson.__name__}: {lesson.__doc__}")
        print("\n".join(lesson()))
        print()


if __name__ == "__main__":
    main()
