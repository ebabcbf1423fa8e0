"use strict";
const ROWS_SHOWN = 100;
const groups = JSON.parse(document.getElementById("charts").textContent);
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/* Charts: drawn when their group is open and in sight, and again when the colour scheme changes. */
const kinds = {
  baseline: {name: "baseline", colour: "--bar-base", pattern: "", symbol: "diamond"},
  ok: {name: "agrees with the reference", colour: "--bar", pattern: "", symbol: "circle"},
  mismatch: {name: "mismatch, not ranked", colour: "--bar-warn", pattern: "/", symbol: "x"},
};
const twoLines = (label) => label.replace(" · ", "<br>");

function fill(tone, shape) {
  if (!shape) return {color: colour(tone)};
  return {color: colour(tone), pattern: {shape, size: 7, solidity: 0.3, bgcolor: colour(tone), fgcolor: colour("--page")}};
}

function layout(height, extra) {
  const axis = {gridcolor: colour("--line"), zerolinecolor: colour("--line"), automargin: true};
  return {
    height, margin: {l: 8, r: 12, t: 8, b: 36}, bargap: 0.35,
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: {family: "system-ui, sans-serif", size: 12, color: colour("--text")},
    hoverlabel: {bgcolor: colour("--card"), font: {color: colour("--text")}},
    legend: {orientation: "h", y: 1.02, yanchor: "bottom", x: 0},
    ...extra, xaxis: {...axis, ...(extra.xaxis || {})}, yaxis: {...axis, ...(extra.yaxis || {})},
  };
}

function rows(cases) {
  return {tickvals: cases.map((_, i) => i), ticktext: cases.map((c) => twoLines(c.label)),
          autorange: "reversed", showgrid: false, zeroline: false};
}

function latency(cases) {
  const seen = new Map();
  cases.forEach((c, i) => { if (!seen.has(c.kind)) seen.set(c.kind, []); seen.get(c.kind).push(i); });
  const traces = [...seen].map(([kind, at]) => ({
    type: "bar", orientation: "h", name: kinds[kind].name, y: at, x: at.map((i) => cases[i].p50), width: 0.62,
    marker: fill(kinds[kind].colour, kinds[kind].pattern),
    error_x: {type: "data", symmetric: false, color: colour("--text"), thickness: 1.3, width: 4,
      array: at.map((i) => cases[i].high === null ? 0 : cases[i].high - cases[i].p50),
      arrayminus: at.map((i) => cases[i].low === null ? 0 : cases[i].p50 - cases[i].low)},
    hovertext: at.map((i) => `${cases[i].label}<br>${cases[i].said}<br>${cases[i].times}<br>${cases[i].verdict}`),
    hoverinfo: "text",
  }));
  const baseline = cases.find((c) => c.kind === "baseline");
  const shapes = baseline ? [{type: "line", x0: baseline.p50, x1: baseline.p50, yref: "paper", y0: 0, y1: 1,
    line: {color: colour("--bar-base"), width: 1.5, dash: "dot"}}] : [];
  /* An interval that is many times its median would squeeze all bars to nothing: it leaves the picture. */
  const longest = Math.max(...cases.map((c) => c.p50)), widest = Math.max(...cases.map((c) => c.high ?? c.p50));
  const range = [0, 1.04 * Math.min(widest, 2 * longest)];
  return [traces, layout(90 + 44 * cases.length, {shapes, yaxis: rows(cases), xaxis: {range}})];
}

/* Where each label of a scatter chart stands: the first side of its point on which it covers nothing. */
function sides(points, labels, width, height) {
  const box = (x, y, w, h) => ({x0: x - w / 2, x1: x + w / 2, y0: y - h / 2, y1: y + h / 2});
  const meets = (a, b) => a.x0 < b.x1 && b.x0 < a.x1 && a.y0 < b.y1 && b.y0 < a.y1;
  const taken = points.map(([x, y]) => box(x * width, y * height, 11, 11));
  return points.map(([x, y], i) => {
    const long = 6.2 * labels[i].length, [px, py] = [x * width, y * height];
    const places = {
      "top center": box(px, py + 15, long, 13), "bottom center": box(px, py - 15, long, 13),
      "middle right": box(px + 9 + long / 2, py, long, 13), "middle left": box(px - 9 - long / 2, py, long, 13),
    };
    const fits = ([, b]) => b.x0 >= 0 && b.x1 <= width && !taken.some((other) => meets(b, other));
    const [side, chosen] = Object.entries(places).find(fits) || ["top center", places["top center"]];
    taken.push(chosen);
    return side;
  });
}

function parity(cases, place) {
  const known = cases.filter((c) => c.distance !== null);
  const widest = Math.max(...known.map((c) => c.p50), 0);
  const paths = known.map((c) => c.label.split(" · ")[0]);
  const labels = paths.map((path, i) => paths.indexOf(path) === paths.lastIndexOf(path) ? path : known[i].label);
  const points = known.map((c) => [c.p50 / (widest * 1.15), (Math.log10(c.distance) + 8.5) / 8.8]);
  const side = new Map(sides(points, labels, place.clientWidth - 70, 290).map((at, i) => [known[i], at]));
  const named = new Map(known.map((c, i) => [c, known.length > 14 ? "" : labels[i]]));
  const present = Object.keys(kinds).filter((kind) => known.some((c) => c.kind === kind));
  const traces = present.map((kind) => {
    const these = known.filter((c) => c.kind === kind);
    return {
      type: "scatter", mode: "markers+text", name: kinds[kind].name,
      x: these.map((c) => c.p50), y: these.map((c) => c.distance),
      text: these.map((c) => named.get(c)), textposition: these.map((c) => side.get(c)), cliponaxis: false,
      textfont: {size: 11}, marker: {size: 11, symbol: kinds[kind].symbol, color: colour(kinds[kind].colour)},
      hovertext: these.map((c) => `${c.label}<br>${c.said}<br>worst cosine ${c.cosine}`), hoverinfo: "text",
    };
  });
  return [traces, layout(360, {
    xaxis: {range: [0, widest * 1.15], title: {text: "median latency, ms"}},
    yaxis: {type: "log", range: [-8.5, 0.3], dtick: 2, title: {text: "1 − worst cosine"}, exponentformat: "power"},
  })];
}

function memory(cases) {
  const bars = (key, name, tone, pattern) => ({
    type: "bar", orientation: "h", name, y: cases.map((_, i) => i), x: cases.map((c) => c[key]),
    marker: fill(tone, pattern),
    hovertemplate: "%{x:,.0f} MiB<extra>" + name + "</extra>",
  });
  const traces = [bars("peak", "peak above an empty process", "--bar", ""), bars("file", "file", "--bar-second", "")];
  return [traces, layout(90 + 48 * cases.length, {yaxis: rows(cases), barmode: "group", bargap: 0.3, xaxis: {rangemode: "tozero"}})];
}

const charts = {latency, parity, memory};

function draw(place) {
  const cases = groups[place.closest(".group").dataset.group].cases;
  if (!cases.length) return;
  const [traces, look] = charts[place.dataset.chart](cases, place);
  Plotly.react(place, traces, look, {responsive: true, displaylogo: false, displayModeBar: false});
  place.dataset.drawn = "yes";
}

const inSight = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (entry.isIntersecting && !entry.target.dataset.drawn) draw(entry.target);
  }
}, {rootMargin: "600px"});
document.querySelectorAll(".chart").forEach((place) => inSight.observe(place));
dark.addEventListener("change", () => document.querySelectorAll(".chart[data-drawn]").forEach(draw));

/* Tables: sorted by a click on the head; long ones show their first rows until asked for all. */
function value(row, column, numeric) {
  const cell = row.cells[column];
  if (!numeric) return (cell.querySelector("summary") || cell).textContent.trim().toLowerCase();
  return cell.dataset.value === "" ? null : Number(cell.dataset.value);
}

function compare(a, b, direction) {
  if (a === null || b === null) return (a === null) - (b === null);
  return (a < b ? -1 : a > b ? 1 : 0) * direction;
}

function sort(table, head) {
  const direction = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  const column = head.cellIndex, numeric = head.dataset.sort === "number";
  const keyed = [...table.tBodies[0].rows].map((row) => [value(row, column, numeric), row]);
  keyed.sort((a, b) => compare(a[0], b[0], direction));
  table.tBodies[0].append(...keyed.map(([, row]) => row));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
  show(table);
}

function show(table) {
  const words = document.getElementById("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  let found = 0;
  for (const row of table.tBodies[0].rows) {
    row.words ??= row.textContent.toLowerCase();
    const matches = words.every((word) => row.words.includes(word));
    found += matches;
    row.hidden = !matches || (found > ROWS_SHOWN && !table.dataset.all);
  }
  const more = table.parentElement.nextElementSibling;
  if (more && more.classList.contains("all")) {
    more.hidden = found <= ROWS_SHOWN || Boolean(table.dataset.all);
    more.textContent = `show all ${found} rows`;
  }
  return found;
}

function showAll() {
  const tables = [...document.querySelectorAll("table.results")];
  const found = tables.reduce((sum, table) => sum + show(table), 0);
  const filtered = document.getElementById("filter").value.trim();
  document.getElementById("matches").textContent = filtered ? `${found} cases match` : "";
}

for (const table of document.querySelectorAll("table.results")) {
  for (const head of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(table, head));
    head.append(button);
  }
  if (table.tBodies[0].rows.length > ROWS_SHOWN) {
    const more = document.createElement("button");
    more.type = "button";
    more.className = "all";
    more.addEventListener("click", () => { table.dataset.all = "yes"; show(table); });
    table.parentElement.after(more);
  }
}
document.getElementById("filter").addEventListener("input", showAll);
showAll();

document.addEventListener("click", async (event) => {
  if (!event.target.classList.contains("copy")) return;
  const code = event.target.parentElement.querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
    event.target.textContent = "copied";
  } catch {
    getSelection().selectAllChildren(code);
    event.target.textContent = "selected: press Ctrl+C";
  }
});
