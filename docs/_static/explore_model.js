/* The joint model on three users and four items, forward and backward, as docs/model.md has it.
 *
 * Nothing here knows of the page: matrices are arrays of rows, null is an entry that is not stored. G_y is the gradient of the
 * loss with respect to y. tests/site/test_explore.py compares every number with the package's.
 */
"use strict";

const Model = (() => {
  // ---- the data and the weights at the start ----------------------------------------------------------------------------------
  const U = 3, I = 4, N = U + I;
  const R = [
    [1, 1, 0, 0],
    [0, 1, 1, 0],
    [0, 1, 1, 1],
  ];
  // User, positive item, negative item; B = 4.
  const TRIPLES = [[0, 0, 2], [0, 1, 3], [1, 2, 0], [2, 3, 0]].map(([u, i, j]) => [u, U + i, U + j]);
  const LAMBDA = 0.05;
  const _ = null;
  const START = {
    tau: 0.4, g: 0.3, L: 2, direct: true,
    E_c: [[0.8, 0.5], [-0.4, 0.9], [0.6, -0.7]],
    E_f: [[0.9, -0.3], [-0.6, 0.7]],
    S_f: [[0.7, 0.3], [0.4, 0.6], [0.2, 0.8]],
    S_c: [[0.7, 0.3, _], [_, 0.6, 0.4], [0.4, _, 0.6], [0.8, 0.2, _], [_, 0.5, 0.5], [_, 0.9, 0.1], [0.3, _, 0.7]],
    S_d: [[0.5, _], [_, 0.6], [0.4, _], [0.8, _], [_, 0.3], [_, 0.7], [0.6, _]],
    b: [0.1, -0.2, 0.1, -0.05, 0.1, 0.05, -0.1],
    b0: 0.2,
  };

  // ---- matrices ---------------------------------------------------------------------------------------------------------------
  const sum = values => values.reduce((total, value) => total + value, 0);
  function dot(x, y) {
    let total = 0;
    for (let k = 0; k < x.length; k++) total += x[k] * y[k];  // null, no link, counts as 0
    return total;
  }
  /** f of the entries of one, two or three matrices. */
  const map = (f, X, Y = X, Z = X) => X.map((row, i) => row.map((x, j) => f(x, Y[i][j], Z[i][j])));
  const transpose = X => X[0].map((_, j) => X.map(row => row[j]));
  const product = (X, Y) => {
    const columns = transpose(Y);
    return X.map(row => columns.map(column => dot(row, column)));
  };
  const add = (X, Y) => map((x, y) => x + y, X, Y);
  const scale = (c, X) => map(x => c * x, X);
  const zeros = X => map(() => 0, X);
  /** <G[i], E[j]> at the stored (i, j): the gradient of the weights of S in Y = S E. */
  const atStored = (S, G, E) => S.map((row, i) => row.map((s, j) => (s === null ? null : dot(G[i], E[j]))));
  const softplus = x => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
  const sigmoid = x => (x >= 0 ? 1 : Math.exp(x)) / (1 + Math.exp(-Math.abs(x)));

  /** A = D^-1/2 [[0, R], [R^T, 0]] D^-1/2. */
  function adjacency() {
    const A_0 = [...R.map(row => [...Array(U).fill(0), ...row]), ...transpose(R).map(row => [...row, ...Array(I).fill(0)])];
    const degree = A_0.map(sum);
    return A_0.map((row, i) => row.map((a, j) => a / Math.sqrt(degree[i] * degree[j])));
  }
  const A = adjacency();

  // ---- forward ----------------------------------------------------------------------------------------------------------------
  /** X_0 and the layers after it, X_{k+1} = A X_k. */
  function layers(X_0, L) {
    const X = [X_0];
    for (let k = 0; k < L; k++) X.push(product(A, X[k]));
    return X;
  }
  const mean = X => scale(1 / X.length, X.reduce(add));

  /** P = mean(1, A, ..., A^L), with which H = P X_0: for whoever needs many losses and no layers. */
  const identity = A.map((row, i) => row.map((_, j) => (i === j ? 1 : 0))), propagators = {};
  const propagator = L => (propagators[L] ??= mean(layers(identity, L)));

  /** Every stage from the weights to the loss; all layers, unless the propagator P is given. */
  function forward(p, P = null) {
    const F = map(e => (Math.abs(e) <= p.tau ? 0 : e - Math.sign(e) * p.tau), p.E_f);
    const E_hat = add(scale(p.g, product(p.S_f, F)), scale(1 - p.g, p.E_c));
    const composed = product(p.S_c, E_hat);
    const Y = p.direct ? add(composed, product(p.S_d, F)) : composed;
    const Z = map(Math.tanh, Y);
    const X = P ? null : layers(Z, p.L);
    const H = P ? product(P, Z) : mean(X);
    const score = (u, i) => dot(H[u], H[i]) + p.b[u] + p.b[i] + p.b0;
    const scores = R.map((row, u) => row.map((_, i) => score(u, U + i)));
    const B = TRIPLES.length;
    const x = TRIPLES.map(([u, i, j]) => score(u, i) - score(u, j));
    const bpr = sum(x.map(each => softplus(-each))) / B;
    const penalty = LAMBDA / B * sum(TRIPLES.flat().map(e => dot(Z[e], Z[e])));
    const slope = x.map(each => sigmoid(-each) / B);
    return { F, E_hat, Y, Z, X, H, scores, slope, bpr, penalty, loss: bpr + penalty };
  }

  // ---- backward ---------------------------------------------------------------------------------------------------------------
  /** The gradient of the loss with respect to everything, from the loss to the weights; `f` is what forward(p) returned. */
  function backward(p, f) {
    const B = TRIPLES.length;
    // The scores and the loss.
    const H = zeros(f.H), b = p.b.map(() => 0), scores = zeros(f.scores);
    TRIPLES.forEach(([u, i, j], k) => {
      const s = f.slope[k];
      f.H[u].forEach((h_u, c) => {
        H[u][c] -= s * (f.H[i][c] - f.H[j][c]);
        H[i][c] -= s * h_u;
        H[j][c] += s * h_u;
      });
      b[i] -= s;
      b[j] += s;
      scores[u][i - U] -= s;
      scores[u][j - U] += s;
    });
    // Propagation: every layer passes back its share of the mean, and what the next layer passes through A^T.
    const share = scale(1 / (p.L + 1), H), X = Array(p.L + 1);
    X[p.L] = share;
    for (let k = p.L - 1; k >= 0; k--) X[k] = add(share, product(transpose(A), X[k + 1]));
    // The regulariser sees Z too.
    const count = f.Z.map((_, e) => TRIPLES.flat().filter(other => other === e).length);
    const Z = X[0].map((row, e) => row.map((x, c) => x + 2 * LAMBDA / B * count[e] * f.Z[e][c]));
    const Y = map((grad, z) => grad * (1 - z * z), Z, f.Z);
    // The composition: codebook rows, and the weights of the links.
    const S_c = atStored(p.S_c, Y, f.E_hat);
    const E_hat = product(transpose(p.S_c), Y);
    const S_d = p.direct ? atStored(p.S_d, Y, f.F) : map(s => (s === null ? null : 0), p.S_d);
    const F_direct = p.direct ? product(transpose(p.S_d), Y) : zeros(f.F);
    // The bridge.
    const E_c = scale(1 - p.g, E_hat);
    const S_f = scale(p.g, atStored(p.S_f, E_hat, f.F));
    const F_bridge = scale(p.g, product(transpose(p.S_f), E_hat));
    const F = add(F_direct, F_bridge);
    const bridged = product(p.S_f, f.F);
    const g = sum(map((grad, x, e) => grad * (x - e), E_hat, bridged, p.E_c).flat());
    // The soft threshold.
    const E_f = map((grad, e) => (Math.abs(e) > p.tau ? grad : 0), F, p.E_f);
    const tau = sum(map((grad, e) => -grad * Math.sign(e), E_f, p.E_f).flat());
    return { H, scores, X, Z, Y, S_c, S_d, E_hat, F, F_direct, F_bridge, E_c, S_f, E_f, b, b0: 0, tau, g };
  }

  // ---- the difference ---------------------------------------------------------------------------------------------------------
  /** What forward takes, with another value in one place: ["tau"], ["g"], or [matrix, row, column]. */
  function moved(p, [name, i, j], value) {
    if (i === undefined) return { ...p, [name]: value };
    return { ...p, [name]: p[name].map((row, k) => (k === i ? row.map((x, c) => (c === j ? value : x)) : row)) };
  }
  const valueAt = (p, [name, i, j]) => (i === undefined ? p[name] : p[name][i][j]);

  /** The central difference of the loss, and the two forward passes it is made of. */
  function difference(p, place, h) {
    const value = valueAt(p, place);
    const above = forward(moved(p, place, value + h)), below = forward(moved(p, place, value - h));
    return { above, below, quotient: (above.loss - below.loss) / (2 * h) };
  }
  const relativeGap = (found, right) =>
    found === right ? 0 : Math.abs(found - right) / Math.max(Math.abs(found), Math.abs(right));

  /** The entries of E_f whose kink, |E_f| = tau, lies closer than h, as [row, column]. */
  const atKink = (p, h) =>
    p.E_f.flatMap((row, i) => row.map((e, j) => [i, j, Math.abs(Math.abs(e) - p.tau) < h * (1 - 1e-9)]))
      .filter(each => each[2]).map(([i, j]) => [i, j]);

  /** The smallest cosine between two rows. */
  function smallestCosine(X) {
    const cosines = X.flatMap((x, i) => X.slice(0, i).map(y => dot(x, y) / Math.sqrt(dot(x, x) * dot(y, y))));
    return Math.min(...cosines);
  }

  return {
    U, I, A, TRIPLES, START, softplus, propagator, forward, backward, moved, valueAt, difference, relativeGap, atKink,
    smallestCosine,
  };
})();
