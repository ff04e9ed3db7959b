/* The page docs/explore: sliders, matrices and pictures around the model of explore_model.js. No library, no network. */
"use strict";

(() => {
  const mount = document.getElementById("explore");
  if (!mount) return;

  const { U, I, A, TRIPLES, START } = Model;
  const LAYERS = [0, 1, 2, 3, 4, 5, 6, 8, 12, 20, 50, 100];
  const REACH = 2;  // the chosen weight moves from -REACH to REACH
  const number = (letter, n) => Array.from({ length: n }, (_, k) => letter + (k + 1));
  const ROWS = { entity: [...number("u", U), ...number("i", I)], coarse: number("c", 3), fine: number("f", 2) };
  ROWS.user = ROWS.entity.slice(0, U);
  ROWS.item = ROWS.entity.slice(U);
  const WIDTH = ["1", "2"];
  /** Of every matrix its rows, its columns, and what it is. */
  const MATRICES = {
    E_c: [ROWS.coarse, WIDTH, "coarse codebook"], E_f: [ROWS.fine, WIDTH, "fine codebook"],
    S_c: [ROWS.entity, ROWS.coarse, "links to coarse rows"], S_d: [ROWS.entity, ROWS.fine, "direct links"],
    S_f: [ROWS.coarse, ROWS.fine, "links of the bridge"],
    F: [ROWS.fine, WIDTH, "after the soft threshold"], E_hat: [ROWS.coarse, WIDTH, "bridged codebook"],
    Y: [ROWS.entity, WIDTH, "composed"], Z: [ROWS.entity, WIDTH, "ego embeddings"],
    H: [ROWS.entity, WIDTH, "mean of the layers"], scores: [ROWS.user, ROWS.item, "scores of all pairs"],
  };
  const CHOOSABLE = ["E_c", "E_f", "S_c", "S_d", "S_f"];

  // ---- what is shown ----------------------------------------------------------------------------------------------------------

  let state, chosen, step;
  const begin = () => { state = { ...START }; chosen = ["E_f", 0, 0]; step = 5; };
  begin();

  /** What a button sets, on top of the start. */
  const TRIES = {
    start: ["Start again", () => {}],
    dead: ["Dead zone", () => { chosen = ["E_f", 0, 1]; }],
    kink: ["At the kink", () => { state = Model.moved(state, chosen, state.tau); }],
    bridge: ["No bridge", () => { state.g = 0; }],
    neither: ["No bridge, no direct links", () => { state.g = 0; state.direct = false; }],
    layers: ["Many layers", () => { state.L = 100; }],
    rounding: ["Tiny step", () => { step = 12; }],
  };

  // ---- words and numbers ------------------------------------------------------------------------------------------------------
  const minus = text => text.replace(/-/g, "−");
  const LETTERS = { E_hat: "Ê", tau: "τ", loss: "ℓ", lambda: "λ" };
  /** A symbol as HTML: E_f, E_hat, G_E_f, tau. */
  function symbol(name) {
    if (name in LETTERS) return `<i>${LETTERS[name]}</i>`;
    const [letter, ...rest] = name.split("_");
    const index = rest.join("_");
    const below = letter === "G" ? (LETTERS[index] ?? index.replace("_", "")) : index;
    return `<i>${letter}</i>${below ? `<sub>${below}</sub>` : ""}`;
  }
  /** HTML with symbols for what stands in braces. */
  const html = text => text.replace(/\{(\w+)\}/g, (_, name) => symbol(name));
  const spoken = text => text.replace(/\{(\w+)\}/g, (_, name) => LETTERS[name] ?? name);
  const short = (x, digits) =>
    minus(x === 0 ? "0" : Math.abs(x) < 0.5 * 10 ** -digits ? x.toExponential(0) : x.toFixed(digits));
  const value = x => short(x, 3);
  const slope = x => short(x, 4);
  const nameOf = ([name, i, j]) =>
    i === undefined ? `{${name}}` : `{${name}}[${MATRICES[name][0][i]}, ${MATRICES[name][1][j]}]`;
  const listed = words => words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;

  function element(tag, attributes = {}, ...children) {
    const made = ["svg", "g", "path", "rect", "circle", "line", "text", "title", "polygon"].includes(tag)
      ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    for (const [name, given] of Object.entries(attributes)) {
      if (name === "html") made.innerHTML = given;
      else made.setAttribute(name, given);
    }
    made.append(...children);
    return made;
  }
  const find = selector => mount.querySelector(selector);

  // ---- matrices ---------------------------------------------------------------------------------------------------------------
  /** A table whose cells show a number and, below it, the gradient with respect to it; of weights, every cell can be chosen. */
  function matrix(name, [rows, columns, title], label = `{${name === "scores" ? "s" : name}}`) {
    const weights = CHOOSABLE.includes(name);
    const table = element("table", { class: "x-matrix", "data-matrix": name });
    table.append(element("caption", { html: `<b>${html(label)}</b> ${title}` }));
    table.append(element("tr", {}, element("td"), ...columns.map(each => element("th", { scope: "col" }, each))));
    rows.forEach((row, i) => {
      const cells = columns.map((_, j) => {
        if (weights && START[name][i][j] === null) {
          return element("td", { class: "x-none", html: '·<span class="x-spoken">no link</span>' });
        }
        const numbers = [element("span", { class: "x-value" }), element("span", { class: "x-slope" })];
        const cell = element("td", { "data-at": [name, i, j].join() });
        if (weights) {
          const radio = element("input", { type: "radio", name: "x-weight", value: [name, i, j].join() });
          cell.append(element("label", {}, radio, ...numbers));
        } else cell.append(...numbers);
        return cell;
      });
      table.append(element("tr", {}, element("th", { scope: "row" }, row), ...cells));
    });
    return table;
  }

  /** Writes numbers, gradients, and which of them the chosen weight moves, into a table. */
  function write(table, values, gradients, moves) {
    for (const cell of table.querySelectorAll("td[data-at]")) {
      const [name, i, j] = cell.dataset.at.split(",");
      const x = values[i][j], grad = gradients[i][j];
      cell.dataset.value = x;
      cell.dataset.gradient = grad;
      cell.querySelector(".x-value").textContent = value(x);
      cell.querySelector(".x-slope").textContent = slope(grad);
      cell.classList.toggle("x-moved", moves(i, j));
      const radio = cell.querySelector("input");
      if (!radio) continue;
      radio.checked = radio.value === chosen.join();
      radio.disabled = name === "S_d" && !state.direct;
      radio.setAttribute("aria-label", spoken(`${nameOf([name, i, j])} ${value(x)}, derivative ${slope(grad)}`));
    }
  }

  // ---- the page's skeleton ----------------------------------------------------------------------------------------------------
  const slider = (id, label, least, most, by) => `
    <div class="x-slider"><label for="x-${id}">${label}</label><span class="x-shown" id="x-${id}-shown" aria-hidden="true"></span>
    <input type="range" id="x-${id}" min="${least}" max="${most}" step="${by}"></div>`;
  const equations = (forward, backward) => html(`<p class="x-equations">${forward}
    <span class="x-back">${backward.map(each => `<span>${each}</span>`).join(" ")}</span></p>`);
  const stage = (title, forward, backward, ...rows) => `
    <section class="x-stage"><h3>${title}</h3>${equations(forward, backward)}
    ${rows.map(names => `<div class="x-tables" data-tables="${names}"></div>`).join("")}</section>`;

  mount.innerHTML = `
    <div class="x-tries" role="group" aria-label="Things to try">${Object.entries(TRIES)
      .map(([id, [label]]) => `<button type="button" data-try="${id}">${label}</button>`).join("")}</div>
    <div class="x-side">
      <div class="x-controls" role="group" aria-label="What you can move">
        ${slider("tau", `threshold ${symbol("tau")}`, 0, 1, 0.05)}
        ${slider("g", `gate ${symbol("g")}`, 0, 1, 0.05)}
        ${slider("L", `layers ${symbol("L")}`, 0, LAYERS.length - 1, 1)}
        ${slider("weight", '<span id="x-weight-name"></span>', -REACH, REACH, 0.05)}
        <label class="x-check"><input type="checkbox" id="x-direct"><span>direct links ${symbol("S_d")}</span></label>
        <p class="x-loss">loss ${symbol("loss")} = <output id="x-loss"></output></p>
      </div>
      <section class="x-derivative" aria-label="Derivative and difference">
        <table class="x-compared"><thead><tr><td></td><th scope="col">derivative</th><th scope="col">difference</th>
          <th scope="col">relative gap</th></tr></thead><tbody></tbody></table>
        ${slider("h", `step ${symbol("h")}`, 1, 12, 1)}
        <p id="x-how"></p>
        <figure><figcaption id="x-along"></figcaption><div id="x-plot"></div></figure>
      </section>
    </div>
    <div class="x-main">
      <div id="x-notes" role="status"></div>
      <figure class="x-picture"><div id="x-picture"></div><figcaption id="x-path"></figcaption></figure>
      <p class="x-legend"><span class="x-sample"><span class="x-value">value</span><span class="x-slope">gradient</span></span>
        Every cell has its value above and the gradient of the loss with respect to it below.
        Framed cells are weights: choose one. <span class="x-moved">Shaded</span> cells move with it.</p>
      ${stage("Codebooks and threshold",
        "{F} = sign({E_f}) max(|{E_f}| − {tau}, 0)", ["{G_E_f} = {G_F} where |{E_f}| > {tau}, 0 elsewhere"], "E_f,F")}
      ${stage("Bridge", "{E_hat} = {g} {S_f} {F} + (1 − {g}) {E_c}",
        ["{G_E_c} = (1 − {g}) {G_E_hat}", "{G_S_f} = {g} ⟨{G_E_hat}, {F}⟩"], "S_f,E_c,E_hat")}
      ${stage("Composition", "{Y} = {S_c} {E_hat} + {S_d} {F}, &nbsp; {Z} = tanh({Y})",
        ["{G_Y} = {G_Z} (1 − {Z}²)", "{G_S_c} = ⟨{G_Y}, {E_hat}⟩", "{G_S_d} = ⟨{G_Y}, {F}⟩",
          "{G_E_hat} = {S_c}<sup>T</sup> {G_Y}", "{G_F} = {S_d}<sup>T</sup> {G_Y} + {g} {S_f}<sup>T</sup> {G_E_hat}"],
        "S_c,S_d", "Y,Z")}
      <section class="x-stage"><h3>Propagation</h3>${equations(
        "{X_0} = {Z}, &nbsp; {X}<sub>k+1</sub> = {A} {X_k}, &nbsp; {H} = mean({X_0}, …, {X_L})",
        ["{G_L} = {G_H} / ({L} + 1)", "{G_k} = {G_H} / ({L} + 1) + {A}<sup>T</sup> {G}<sub>k+1</sub>",
          "{G_Z} = {G_0} + (2{lambda}/{B}) {c_e} {Z}"])}
        <div class="x-tables" id="x-layers"></div>
        <div class="x-tables" data-tables="H">
          <figure class="x-plane">
            <figcaption>${html("Rows of {H} in the plane, each with a thin line to its row of {Z}")}</figcaption>
            <div id="x-plane"></div></figure></div>
        <details><summary>${html("The graph {A}")}</summary><div class="x-wide" id="x-A"></div></details></section>
      ${stage("Scores and loss",
        `{s}<sub>ui</sub> = ⟨{H_u}, {H_i}⟩ + {b_u} + {b_i} + {b}<sub>0</sub>, &nbsp;
        {x} = {s}<sub>ui</sub> − {s}<sub>uj</sub>, &nbsp; {loss} = mean softplus(−{x}) + ({lambda}/{B}) Σ |{Z}|²`,
        ["slope = σ(−{x}) / {B}"], "scores")}
    </div>`;

  const tables = {};
  for (const box of mount.querySelectorAll("[data-tables]")) {
    const made = box.dataset.tables.split(",").map(name => tables[name] = matrix(name, MATRICES[name]));
    box.prepend(...made);
  }
  const lossBox = find('[data-tables="scores"]');
  const biases = matrix("b", [[...ROWS.entity, "b₀"], [""], "biases"], "{b}");
  const triples = element("table", { class: "x-matrix x-triples" });
  const stack = element("div", { class: "x-stack" }, tables.scores, triples, element("p", { id: "x-parts" }));
  lossBox.append(stack, biases);
  const graph = element("table", { class: "x-matrix" });
  graph.append(element("caption", { html: `<b>${symbol("A")}</b> adjacency, normalised` }),
    element("tr", {}, element("td"), ...ROWS.entity.map(each => element("th", { scope: "col" }, each))),
    ...A.map((row, i) => element("tr", {}, element("th", { scope: "row" }, ROWS.entity[i]),
      ...row.map((a, j) => element("td", { "data-A": `${i},${j}`, "data-value": a }, a ? value(a) : "·")))));
  find("#x-A").append(graph);

  // ---- pictures ---------------------------------------------------------------------------------------------------------------
  /** Where the nodes of the computation stand: on a wide page, and on a narrow one. */
  const PLACES = {
    wide: { size: [660, 230], E_c: [22, 30], S_f: [22, 108], E_f: [22, 186], F: [118, 186], E_hat: [178, 70], S_c: [236, 24],
      Y: [278, 120], S_d: [236, 206], Z: [364, 120], A: [462, 30], H: [462, 120], b: [540, 30], scores: [540, 120],
      loss: [630, 120], bow: [[364, 120], [390, 222], [590, 222], [630, 120]] },
    narrow: { size: [320, 520], E_c: [46, 26], S_f: [146, 26], E_f: [256, 26], F: [256, 106], E_hat: [106, 122], S_c: [40, 206],
      Y: [160, 206], S_d: [280, 206], Z: [160, 282], A: [60, 356], H: [160, 356], b: [60, 426], scores: [160, 426],
      loss: [160, 492], bow: [[160, 282], [290, 300], [290, 480], [160, 492]] },
  };
  /** From, to, what is written at the arrow, and whether what stands there is zero. */
  const ARROWS = [
    ["E_f", "F", "τ"], ["F", "E_hat", "g", s => s.g === 0], ["S_f", "E_hat", "", s => s.g === 0],
    ["E_c", "E_hat", "1−g", s => s.g === 1], ["E_hat", "Y", ""], ["S_c", "Y", ""], ["F", "Y", "", s => !s.direct],
    ["S_d", "Y", "", s => !s.direct], ["Y", "Z", "tanh"], ["Z", "H", "L layers"], ["A", "H", ""], ["H", "scores", ""],
    ["b", "scores", ""], ["scores", "loss", ""], ["Z", "loss", "regulariser"],
  ];
  const wordOf = name => LETTERS[name] && name !== "loss" ? LETTERS[name] : name;

  /** A symbol in a drawing, and what follows it. */
  function svgSymbol(name, attributes, after = "") {
    const [letter, below] = wordOf(name).split("_"), text = element("text", attributes);
    text.innerHTML = `<tspan class="${letter.length > 1 ? "" : "x-italic"}">${letter}</tspan>`
      + (below ? `<tspan dy="4" class="x-below">${below}</tspan>` : "") + (after ? `<tspan dy="-4">${after}</tspan>` : "");
    return text;
  }

  /** The computation, with the way from the chosen weight to the loss lit; `lit` are the nodes that it moves. */
  function drawPicture(lit) {
    const box = find("#x-picture"), places = PLACES[isNarrow() ? "narrow" : "wide"], [width, height] = places.size;
    const half = name => [name === "scores" || name === "loss" ? 27 : 20, 15];
    const drawing = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-labelledby": "x-path",
      style: `max-width: ${width * 1.15}px` });
    const nodes = element("g"), labels = element("g");
    for (const [from, to, label, isZero = () => false] of ARROWS) {
      const bow = from === "Z" && to === "loss" ? places.bow : null;
      const aim = bow ? bow[2] : places[from], leave = bow ? bow[1] : places[to];
      const start = edgeOf(places[from], leave, half(from)), end = edgeOf(places[to], aim, half(to));
      const starts = lit.has(from), ends = lit.has(to), zero = isZero(state);
      // A weight whose arrow leads to a node that it does not move: the way ends here.
      const kind = starts && ends && !zero ? "x-lit" : starts && !ends ? "x-cut" : zero ? "x-off" : "";
      const arrow = element("g", { class: `x-arrow ${kind}`, "data-arrow": `${from}-${to}` });
      const line = bow ? `M${start} C${bow[1]} ${bow[2]} ${end}` : `M${start} L${end}`;
      arrow.append(element("path", { d: line }), element("polygon", { points: head(aim, end) }));
      const middle = bow ? bow[0].map((_, k) => (start[k] + 3 * bow[1][k] + 3 * bow[2][k] + end[k]) / 8)
        : start.map((x, k) => (x + end[k]) / 2);
      if (kind === "x-cut") arrow.append(element("text", { x: middle[0], y: middle[1] + 6, class: "x-cross" }, "✕"));
      if (label) labels.append(labelAt(label, middle, bow, start, end, kind === "x-cut"));
      drawing.append(arrow);
    }
    for (const [name, place] of Object.entries(places)) {
      if (name === "size" || name === "bow") continue;
      const [w, h] = half(name), off = name === "S_d" && !state.direct;
      const kind = name === chosen[0] ? "x-chosen" : lit.has(name) ? "x-lit" : off ? "x-off" : "";
      nodes.append(element("g", { class: `x-node ${kind}`, "data-node": name },
        element("rect", { x: place[0] - w, y: place[1] - h, width: 2 * w, height: 2 * h, rx: 6 }),
        svgSymbol(name, { x: place[0], y: place[1] + 5 })));
    }
    drawing.append(labels, nodes);
    box.replaceChildren(drawing);
  }
  /** Where a line from the middle of a node towards a point leaves its box. */
  function edgeOf([x, y], [toX, toY], [w, h]) {
    const dx = toX - x, dy = toY - y, t = Math.min(w / Math.abs(dx || 1e-9), h / Math.abs(dy || 1e-9));
    return [x + t * dx, y + t * dy];
  }
  function head([fromX, fromY], [x, y]) {
    const length = Math.hypot(x - fromX, y - fromY), dx = (x - fromX) / length * 8, dy = (y - fromY) / length * 8;
    return `${x},${y} ${x - dx - dy / 2},${y - dy + dx / 2} ${x - dx + dy / 2},${y - dy - dx / 2}`;
  }
  function labelAt(label, [x, y], bow, start, end, cut) {
    const level = Math.abs(start[1] - end[1]) < 2;
    const upright = Math.abs(start[0] - end[0]) < 2;
    const shift = bow ? [0, 4] : level ? [0, cut ? -12 : -7] : upright ? [8, 4] : [0, cut ? -10 : 4];
    return element("text", { x: x + shift[0], y: y + shift[1], class: `x-label ${upright && !bow ? "x-left" : ""}` }, label);
  }

  /** Round numbers for an axis. */
  function ticks(least, most, count) {
    const raw = (most - least) / count, size = 10 ** Math.floor(Math.log10(raw));
    const by = [1, 2, 5, 10].map(each => each * size).find(each => each >= raw);
    const digits = Math.max(0, -Math.floor(Math.log10(by) + 1e-9));
    const found = [];
    for (let k = Math.ceil(least / by); k * by <= most; k++) found.push([k * by, minus((k * by).toFixed(digits))]);
    return found;
  }

  /** The loss along the chosen weight, and its tangent. */
  function drawPlot(at, loss, derivative) {
    const W = 300, H = 186, left = 56, right = 8, top = 8, bottom = 38;
    const xs = Array.from({ length: 81 }, (_, k) => REACH * (k - 40) / 40), P = Model.propagator(state.L);
    const ys = xs.map(x => Model.forward(Model.moved(state, chosen, x), P).loss);
    const middle = (Math.min(...ys) + Math.max(...ys)) / 2, reach = Math.max((Math.max(...ys) - Math.min(...ys)) * 0.6, 0.01);
    const px = x => left + (x + REACH) / (2 * REACH) * (W - left - right);
    const py = y => top + (middle + reach - y) / (2 * reach) * (H - top - bottom);
    const svg = element("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-labelledby": "x-along" });
    if (chosen[0] === "E_f" && state.tau > 0) {
      const [from, to] = [px(-state.tau), px(state.tau)];
      svg.append(element("rect", { class: "x-dead", x: from, y: top, width: to - from, height: H - top - bottom }),
        element("text", { class: "x-tick", x: px(0), y: top + 12 }, "dead zone"));
    }
    for (const [x, label] of ticks(-REACH, REACH, 4)) {
      svg.append(element("line", { class: "x-axis", x1: px(x), x2: px(x), y1: H - bottom, y2: H - bottom + 4 }),
        element("text", { class: "x-tick", x: px(x), y: H - bottom + 16 }, label));
    }
    for (const [y, label] of ticks(middle - reach, middle + reach, 4)) {
      svg.append(element("line", { class: "x-axis", x1: left - 4, x2: left, y1: py(y), y2: py(y) }),
        element("text", { class: "x-tick x-right", x: left - 7, y: py(y) + 4 }, label));
    }
    svg.append(element("path", { class: "x-axis", d: `M${left},${top} V${H - bottom} H${W - right}` }));
    svg.append(element("path", { class: "x-curve", "data-losses": ys,
      d: "M" + xs.map((x, k) => `${px(x)},${py(ys[k])}`).join(" L") }));
    // A quarter of the axis to each side, as far as it stays inside.
    const inside = way => Math.min(0.5 * REACH, REACH - way * at, (reach - way * Math.sign(derivative) * (loss - middle)) /
      Math.abs(derivative || 1e-9));
    const ends = [-1, 1].map(way => way * inside(way)).map(t => `${px(at + t)},${py(loss + t * derivative)}`);
    svg.append(element("path", { class: "x-tangent", d: `M${ends.join(" L")}` }));
    svg.append(element("circle", { class: "x-point", cx: px(at), cy: py(loss), r: 5 }));
    const cell = nameOf(chosen).replace(/^.*\}/, ""), across = (left + W - right) / 2, up = (top + H - bottom) / 2;
    svg.append(svgSymbol(chosen[0], { class: "x-tick", x: across, y: H - 5 }, cell),
      element("text", { class: "x-tick", x: 12, y: up, transform: `rotate(-90 12 ${up})` }, "loss"));
    find("#x-plot").replaceChildren(svg);
  }

  /** Rows of Z and of H as points; those that lie on each other share a label. */
  function drawPlane(Z, H) {
    const size = 320, most = 1.2 * Math.max(...Z.flat().map(Math.abs), ...H.flat().map(Math.abs));
    const at = ([x, y]) => [size / 2 * (1 + x / most), size / 2 * (1 - y / most)];
    const svg = element("svg", { viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": "Rows of H in the plane" });
    svg.append(element("path", { class: "x-axis", d: `M0,${size / 2} H${size} M${size / 2},0 V${size}` }),
      element("text", { class: "x-name x-right", x: size - 2, y: size / 2 + 14 }, "column 1"),
      element("text", { class: "x-name x-left", x: size / 2 + 5, y: 11 }, "column 2"));
    const groups = [];
    H.forEach((row, e) => {
      const [x, y] = at(row), kind = e < U ? "x-user" : "x-item";
      svg.append(element("path", { class: `x-way ${kind}`, d: `M${at(Z[e])} L${x},${y}` }),
        e < U ? element("circle", { class: `x-dot ${kind}`, cx: x, cy: y, r: 5 })
          : element("rect", { class: `x-dot ${kind}`, x: x - 4.5, y: y - 4.5, width: 9, height: 9 }));
      const near = groups.find(group => Math.hypot(group.x - x, group.y - y) < 10);
      if (near) near.names.push(ROWS.entity[e]);
      else groups.push({ x, y, names: [ROWS.entity[e]] });
    });
    // Every label goes where it is farthest from the other points and from the labels that have a place already.
    const taken = groups.map(({ x, y }) => [x, y]);
    for (const { x, y, names } of groups) {
      const reach = 8 + 6 * names.length + 3 * (names.length - 1);
      const places = [[reach, 0], [reach, -9], [reach, 9], [0, -15], [0, 15], [-reach, 0], [-reach, -9], [-reach, 9]]
        .map(([dx, dy]) => [x + dx, y + dy]).filter(([there]) => there > reach && there < size - reach);
      const room = place => Math.min(...taken.filter(other => other[0] !== x || other[1] !== y)
        .map(other => Math.hypot((place[0] - other[0]) / names.length, place[1] - other[1])), 30);
      const best = places.reduce((a, b) => (room(b) > room(a) ? b : a));
      taken.push(best);
      svg.append(element("text", { class: "x-name", x: best[0], y: best[1] + 4 }, names.join(" ")));
    }
    find("#x-plane").replaceChildren(svg);
  }

  // ---- words about the state --------------------------------------------------------------------------------------------------
  /** How the derivative of the chosen weight is made, with its numbers. */
  function how(f, b) {
    const [name, i, j] = chosen, [rows, columns] = MATRICES[name], row = rows[i], column = columns[j];
    const factor = text => (text.startsWith("−") ? `(${text})` : text);
    const pairs = (G, E) => G.map((grad, c) => `${factor(slope(grad))} · ${factor(value(E[c]))}`).join(" + ");
    const outside = Math.abs(state.E_f[i]?.[j]) > state.tau;
    const result = ` = <b>${slope(b[name][i][j])}</b>`;
    const made = {
      E_c: () => `(1 − {g}) {G_E_hat}[${row}, ${column}] = ${value(1 - state.g)} · ${factor(slope(b.E_hat[i][j]))}${result}`,
      S_c: () => `⟨{G_Y}[${row}], {E_hat}[${column}]⟩ = ${pairs(b.Y[i], f.E_hat[j])}${result}`,
      S_d: () => `⟨{G_Y}[${row}], {F}[${column}]⟩ = ${pairs(b.Y[i], f.F[j])}${result}`,
      S_f: () => `{g} ⟨{G_E_hat}[${row}], {F}[${column}]⟩ = ${value(state.g)} · (${pairs(b.E_hat[i], f.F[j])})${result}`,
      E_f: () => `(${slope(b.F_direct[i][j])} + ${factor(slope(b.F_bridge[i][j]))}) · ${outside ? 1 : 0}${result}: what comes
        through direct links, through the bridge, and ${outside ? "1 because |{E_f}| > {tau}" : "0 because |{E_f}| ≤ {tau}"}`,
    };
    return `∂{loss}/∂${nameOf(chosen)} = ${made[name]()}`;
  }

  /** Whether the difference along the chosen weight reaches across a kink. */
  const isAtKink = kinks => chosen[0] === "E_f" && kinks.some(([i, j]) => i === chosen[1] && j === chosen[2]);

  /** What is to be said of where the sliders stand: those of these sentences that hold. */
  function notes(f, b, h) {
    const [name, , j] = chosen, kinks = Model.atKink(state, h), cosine = X => minus(Model.smallestCosine(X).toFixed(3));
    const size = Math.abs(Model.valueAt(state, chosen)), isFine = name === "E_f";
    const isZero = isFine && size === 0 && state.tau === 0;
    const { g, direct, L } = state;
    return [
      [isZero, `<b>A convention.</b> With {tau} = 0 there is no dead zone and no kink: {F} = {E_f}. The backward pass gives 0 all
        the same to an entry that is exactly 0, because |{E_f}| > {tau} is false; the difference has the derivative.`],
      [isAtKink(kinks) && !isZero, `<b>At a kink.</b> |{E_f}| is within {h} of {tau}, so the difference reaches across the kink.
        It mixes the slope outside with the 0 inside (half of it, if the weight stands exactly at the kink) and says nothing about
        the gradient. There is no derivative at |{E_f}| = {tau}; by convention the backward pass gives 0 there.`],
      [isFine && size <= state.tau && !isAtKink(kinks), `<b>In the dead zone.</b> |{E_f}| = ${value(size)} ≤ {tau} =
        ${value(state.tau)}, so {F} is 0 whatever the weight. Derivative and difference are exactly 0, and no gradient step moves
        the weight out.`],
      [!isFine && kinks.length, `<b>A kink elsewhere.</b> ${listed(kinks.map(([i, c]) => nameOf(["E_f", i, c])))} is within {h} of
        |{E_f}| = {tau}. The loss has a kink along that weight and along {tau}, but none along ${nameOf(chosen)}.`],
      [g === 0 && !direct, `<b>No gradient for the fine codebook.</b> With {g} = 0 and without direct links, {E_f} and {S_f}
        cannot affect the loss: their gradients are exactly 0.`],
      [g === 0 && direct, `<b>No bridge.</b> With {g} = 0, {S_f} gets no gradient and {E_hat} = {E_c}. What is left of {G_F} comes
        through the direct links.`],
      [g === 1, "<b>No coarse codebook.</b> With {g} = 1, {E_hat} = {S_f} {F}, and the gradient of {E_c} is exactly 0."],
      [g > 0 && !direct, "<b>No direct links.</b> {F} affects the loss through the bridge alone."],
      [name === "S_d" && f.F[j].every(x => x === 0), `<b>A link to nothing.</b> Row ${ROWS.fine[j]} of {F} is 0, so the link adds
        nothing, and its weight gets no gradient.`],
      [L === 0, "<b>No layers.</b> {H} = {Z}: the graph plays no part."],
      [L >= 12, `<b>Rows become alike.</b> The smallest cosine between two rows of {H} is ${cosine(f.H)} (of {Z}: ${cosine(f.Z)}).
        All rows turn to one direction. Their lengths still differ: they approach a multiple of the roots of the degrees.`],
      [step <= 3 && !kinks.length, "<b>A large step.</b> The gap falls with {h}², until rounding takes over."],
      [step >= 8, `<b>A small step.</b> The two losses agree in most of their digits, and rounding is divided by {h}: the error is
        about 10⁻¹⁶/{h}.`],
    ].filter(([holds]) => holds).map(([, text]) => `<p>${html(text)}</p>`).join("");
  }

  // ---- from the state to the page ---------------------------------------------------------------------------------------------
  let shownLayers = null, lastSaid = "";
  const layerTables = {};
  /** Tables of the first and the last layers. */
  function layTables() {
    if (shownLayers === state.L) return;
    shownLayers = state.L;
    const all = Array.from({ length: state.L + 1 }, (_, k) => k);
    const some = all.length <= 5 ? all : [0, 1, 2, state.L - 1, state.L];
    const box = find("#x-layers");
    box.replaceChildren();
    for (const k of Object.keys(layerTables)) delete layerTables[k];
    some.forEach((k, n) => {
      if (n && some[n - 1] !== k - 1) box.append(element("span", { class: "x-gap" }, "…"));
      box.append(layerTables[k] = matrix(`X${k}`, [ROWS.entity, WIDTH, k ? `layer ${k}` : "= Z"], `{X_${k}}`));
    });
  }

  /** A derivative and a difference; the digits in which they differ are marked. */
  function compared(place, derivative, quotient, kink) {
    const gap = Model.relativeGap(derivative, quotient);
    const [right, found] = [derivative, quotient].map(x => minus(x === 0 ? "0" : x.toFixed(9)));
    let same = 0;
    while (same < found.length && found[same] === right[same]) same++;
    const name = place.length > 1 ? nameOf(place) : `{${place[0]}}`;
    const shownGap = kink ? "kink" : gap === 0 ? "0" : minus(gap.toExponential(0));
    const row = element("tr", { "data-compared": place[0], "data-derivative": derivative, "data-difference": quotient });
    row.append(element("th", { scope: "row", html: html(name) }), element("td", {}, right),
      element("td", { html: `${found.slice(0, same)}<span class="x-differs">${found.slice(same)}</span>` }),
      element("td", {}, shownGap));
    return row;
  }

  const setOutput = (id, text, position) => {
    find(`#x-${id}-shown`).textContent = text;
    find(`#x-${id}`).setAttribute("aria-valuetext", text);
    find(`#x-${id}`).value = position;
  };

  function show() {
    const f = Model.forward(state), b = Model.backward(state, f), h = Number(`1e-${step}`);
    const weight = Model.valueAt(state, chosen);
    const { above, below, quotient } = Model.difference(state, chosen, h);

    setOutput("tau", state.tau.toFixed(2), state.tau);
    setOutput("g", state.g.toFixed(2), state.g);
    setOutput("L", String(state.L), LAYERS.indexOf(state.L));
    setOutput("weight", minus(weight.toFixed(2)), weight);
    setOutput("h", step === 1 ? "0.1" : minus(`1e-${step}`), step);
    find("#x-weight-name").innerHTML = html(nameOf(chosen));
    find("#x-direct").checked = state.direct;
    find("#x-loss").textContent = f.loss.toFixed(6);
    mount.dataset.loss = f.loss;
    mount.dataset.bpr = f.bpr;
    mount.dataset.penalty = f.penalty;

    // Values, gradients, and what the chosen weight moves: what differs between the two forward passes of the difference.
    const unmoved = () => false;
    for (const [name, table] of Object.entries(tables)) {
      const moves = name in f ? (i, j) => above[name][i][j] !== below[name][i][j] : unmoved;
      write(table, f[name] ?? state[name], b[name], moves);
      table.classList.toggle("x-off", name === "S_d" && !state.direct);
    }
    layTables();
    for (const [k, table] of Object.entries(layerTables)) {
      write(table, f.X[k], b.X[k], (i, j) => above.X[k][i][j] !== below.X[k][i][j]);
    }
    write(biases, [...state.b, state.b0].map(x => [x]), [...b.b, b.b0].map(x => [x]), unmoved);
    find("#x-parts").innerHTML = html(`{loss} = ${f.bpr.toFixed(4)} + ${f.penalty.toFixed(4)} = <b>${f.loss.toFixed(4)}</b>`);
    const score = (u, i) => f.scores[u][i - U];
    triples.replaceChildren(element("caption", { html: "<b>triples</b> of the batch" }),
      element("tr", {}, ...["u, i, j", "s_ui", "s_uj", "softplus", "slope"].map(each =>
        element("th", { scope: "col", html: each.includes("_") ? symbol(each) : each }))),
      ...TRIPLES.map(([u, i, j], k) => element("tr", {},
        element("th", { scope: "row" }, [u, i, j].map(e => ROWS.entity[e]).join(" ")),
        ...[score(u, i), score(u, j), Model.softplus(-(score(u, i) - score(u, j)))].map(x => element("td", {}, value(x))),
        element("td", { "data-slope": f.slope[k] }, element("span", { class: "x-slope" }, slope(f.slope[k]))))));

    // The derivative beside the difference.
    const kinks = Model.atKink(state, h);
    const rows = [compared(chosen, b[chosen[0]][chosen[1]][chosen[2]], quotient, isAtKink(kinks))];
    for (const name of ["tau", "g"]) {
      rows.push(compared([name], b[name], Model.difference(state, [name], h).quotient, name === "tau" && kinks.length > 0));
    }
    find(".x-compared tbody").replaceChildren(...rows);
    find("#x-how").innerHTML = html(how(f, b));

    const lit = new Set([chosen[0], ...["F", "E_hat", "Y", "Z", "H", "scores"].filter(name =>
      above[name].some((row, i) => row.some((x, j) => x !== below[name][i][j])))]);
    if (above.loss !== below.loss) lit.add("loss");
    drawPicture(lit);
    const reached = ["F", "E_hat", "Y", "Z", "H", "scores", "loss"].filter(name => lit.has(name)).map(name => `{${name}}`
      .replace("{scores}", "the scores").replace("{loss}", "the loss"));
    find("#x-path").innerHTML = html(`${nameOf(chosen)} moves ${listed(reached) || "nothing"}.`);

    find("#x-along").innerHTML = html(`Loss along ${nameOf(chosen)}, and its tangent`);
    drawPlot(weight, f.loss, b[chosen[0]][chosen[1]][chosen[2]]);
    drawPlane(f.Z, f.H);
    const said = notes(f, b, h);
    if (said !== lastSaid) find("#x-notes").innerHTML = lastSaid = said;
  }

  // ---- what the reader does ---------------------------------------------------------------------------------------------------
  mount.addEventListener("input", ({ target }) => {
    const x = Number(target.value);
    if (target.id === "x-tau" || target.id === "x-g") state[target.id.slice(2)] = x;
    else if (target.id === "x-L") state.L = LAYERS[x];
    else if (target.id === "x-h") step = x;
    else if (target.id === "x-weight") state = Model.moved(state, chosen, x);
    else if (target.id === "x-direct") {
      state.direct = target.checked;
      if (!state.direct && chosen[0] === "S_d") chosen = ["E_f", 0, 0];
    } else if (target.name === "x-weight") {
      const [name, i, j] = target.value.split(",");
      chosen = [name, Number(i), Number(j)];
    }
    show();
  });
  // Left and right go from weight to weight, as in any group of choices; up and down stay in a column.
  mount.addEventListener("keydown", event => {
    if (event.target.name !== "x-weight" || !["ArrowUp", "ArrowDown"].includes(event.key)) return;
    event.preventDefault();
    const [name, i, j] = event.target.value.split(",");
    const way = event.key === "ArrowDown" ? 1 : -1;
    for (let row = Number(i) + way; row >= 0 && row < MATRICES[name][0].length; row += way) {
      const next = find(`input[value="${name},${row},${j}"]`);
      if (!next) continue;
      next.focus();
      next.click();
      return;
    }
  });
  mount.addEventListener("click", ({ target }) => {
    const which = TRIES[target.dataset?.try];
    if (!which) return;
    begin();
    which[1]();
    show();
  });
  // The picture has a layout for wide pages and one for narrow ones.
  const isNarrow = () => find("#x-picture").clientWidth < 560;
  let narrow = isNarrow();
  new ResizeObserver(() => {
    if (isNarrow() === narrow) return;
    narrow = isNarrow();
    show();
  }).observe(mount);
  show();
})();
