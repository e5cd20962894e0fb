"use strict";
// Figures are drawn when they come near the screen, and all of them before printing.
const data = JSON.parse(document.getElementById("data").textContent);
const plots = [...document.querySelectorAll(".plot")];
const hidden = new Set();
const dark = matchMedia("(prefers-color-scheme: dark)");
let printing = false;
let timed = false; // whether curves are over seconds

// Paper is white, whatever the screen is; and as wide as two figures of PRINTED.
const PAPER = { "--ink": "#000000", "--soft": "#555555", "--line": "#dddddd" };
const PRINTED = { width: 330, height: 220 };
const DECAY = /beta|gamma|momentum/;

const css = (name) => printing ? PAPER[name] : getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const dash = (name) => data.dashed.includes(name) ? "dash" : "solid"; // colours come round again
const colour = (name) => name === data.reference ? css("--ink") : data.colours[name];
const shown = (rows) => Object.entries(rows).filter(([name]) => !hidden.has(name));
const faint = (hex) => hex + "26"; // opacity of 15%

// The steps of a line, or their seconds; null for seconds that are not measured.
function along(line) {
  if (!timed) return line.step;
  return line.ms === null ? null : line.step.map((step) => step * line.ms / 1e3);
}

function extent(rows) {
  return [0, Math.max(...rows.map(along).filter((x) => x !== null).map((x) => x[x.length - 1]))];
}

function lines(work, kind) {
  const traces = [];
  for (const [name, line] of shown(work.lines)) {
    const x = along(line);
    if (x === null) continue;
    const band = kind === "lr" ? { mean: positive(line.lr.mean) } : line[kind];
    if (!band.mean.some((y) => y !== null)) continue;
    const hue = colour(name);
    if (band.low) {
      const edge = { x, mode: "lines", line: { width: 0 }, hoverinfo: "skip", type: "scatter" };
      traces.push({ ...edge, y: band.low }, { ...edge, y: band.high, fill: "tonexty", fillcolor: faint(hue) });
    }
    traces.push({ x, y: band.mean, name, mode: "lines", type: "scatter",
      line: { color: hue, dash: dash(name), width: name === data.reference ? 2.6 : 1.8 } });
  }
  return traces;
}

function grids(work) {
  const traces = [];
  for (const [name, schedules] of shown(work.grids)) {
    for (const [schedule, { x, y }] of Object.entries(schedules)) {
      traces.push({ x, y, name: `${name}, ${schedule}`, mode: "lines+markers", type: "scatter",
        line: { color: colour(name), width: 1.8, dash: schedule === "constant" ? "solid" : "dot" }, marker: { size: 5 } });
    }
  }
  const ends = traces.flatMap((trace) => trace.x);
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  for (const [name, y] of shown(work.ends)) {
    if (y === null || !ends.length) continue;
    traces.push({ x: [low, high], y: [y, y], name: `${name}, untuned`, mode: "lines", type: "scatter",
      line: { color: colour(name), width: 1.2, dash: "dash" } });
  }
  return traces;
}

// Decays are drawn as their distance from 1, which is what a floor moves.
function floors(work, tower) {
  const { floors: rows } = work.lines[tower];
  const x = along(work.lines[tower]) ?? [];
  return Object.entries(rows).map(([name, values]) => {
    const decays = DECAY.test(name);
    const y = positive(decays ? values.map((value) => value === null ? null : 1 - value) : values);
    return { x, y, name: decays ? `1 \u2212 ${name}` : name, mode: "lines", type: "scatter", line: { width: 1.6 } };
  });
}

const positive = (values) => values.map((value) => value > 0 ? value : null);

function profile() {
  return shown(data.profile).map(([name, { x, y }]) => ({
    x: [...x, data.furthest], y: [...y, y[y.length - 1]], name, mode: "lines", type: "scatter",
    line: { color: colour(name), dash: dash(name), shape: "hv", width: name === data.reference ? 2.6 : 1.8 } }));
}

// A few diverging curves must not flatten all others: the axis ends where most of them are.
function losses(traces, work) {
  const starts = traces.filter((t) => t.name).map((t) => t.y.find((y) => y !== null));
  const all = traces.flatMap((t) => t.y).filter((y) => y !== null);
  const positive = all.length && Math.min(...all) > 0;
  const top = Math.max(work.target ?? -Infinity, ...starts) * (positive ? 1.5 : 1);
  const bottom = Math.min(...all);
  if (!positive || !(top > bottom)) return {};
  return log(bottom * 0.9, Math.min(top, Math.max(...all) * 1.1));
}

// Whole decades are enough where there are two or more of them; else also their 2 and 5.
function log(bottom, top) {
  const range = [Math.log10(bottom), Math.log10(top)];
  return { type: "log", exponentformat: "power", range, dtick: range[1] - range[0] > 2 ? 1 : "D2" };
}

function grid(work) {
  const traces = grids(work);
  const all = traces.flatMap((t) => t.y).filter((y) => y !== null);
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const side = low > 0 ? log(low * 0.9, Math.min(high * 1.1, low * 50)) : {};
  return [traces, { title: "initial learning rate", type: "log", exponentformat: "power", dtick: 1 }, side];
}

function rates(traces) {
  const all = traces.flatMap((t) => t.y).filter((y) => y > 0);
  const top = Math.max(...all);
  return all.length ? log(Math.min(...all) * 0.8, top * 1.25) : {};
}

function contents(plot) {
  const { kind, workload, name } = plot.dataset;
  const work = data.workloads[workload];
  if (kind === "profile") return [profile(), { title: "steps, in multiples of the fastest's", type: "log" }, { title: "share of workloads", range: [0, 1.02], tickformat: ".0%" }];
  if (kind === "grid") return grid(work);
  const over = timed ? shown(work.lines).map(([, line]) => line) : [];
  const steps = timed ? { title: "seconds", range: extent(over) } : { title: "steps", range: [0, work.steps] };
  const traces = kind === "floors" ? floors(work, name) : lines(work, kind);
  if (kind === "floors" || kind === "lr") return [traces, steps, rates(traces)];
  return [traces, steps, kind === "metric" ? {} : losses(traces, work)];
}

function draw(plot) {
  const [traces, { title, ...x }, { title: side, ...y }] = contents(plot);
  const axis = { gridcolor: css("--line"), linecolor: css("--line"), zeroline: false, automargin: true, tickfont: { size: 11 }, fixedrange: true };
  const target = plot.dataset.kind === "valid" ? data.workloads[plot.dataset.workload].target : null;
  Plotly.react(plot, traces, {
    autosize: !printing, ...(printing ? { ...PRINTED, width: PRINTED.width * (plot.classList.contains("wide") ? 2 : 1) } : {}),
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", color: css("--soft"), size: 12 },
    colorway: data.palette, margin: { l: 8, r: 8, t: 8, b: 8 },
    showlegend: false,
    hovermode: "closest", hoverlabel: { namelength: -1 },
    shapes: target === null ? [] : [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: target, y1: target, line: { color: css("--soft"), width: 1, dash: "dot" } }],
    xaxis: { ...axis, title: { text: title, font: { size: 12 } }, ...x },
    yaxis: { ...axis, title: { text: side ?? "", font: { size: 12 } }, ...y },
  }, { displayModeBar: false, responsive: true });
  if (plot.dataset.kind === "floors") legend(plot, traces);
  plot.dataset.drawn = "true";
}

function legend(plot, traces) {
  const entries = traces.map(({ name }, i) => {
    const entry = document.createElement("span");
    const chip = document.createElement("i");
    chip.className = "chip";
    chip.style.setProperty("--hue", data.palette[i % data.palette.length]);
    entry.append(chip, name);
    return entry;
  });
  plot.nextElementSibling.replaceChildren(...entries);
}

const again = () => plots.filter((plot) => plot.dataset.drawn).forEach(draw);
const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting && !target.dataset.drawn) draw(target);
  }
}, { rootMargin: "400px" });
plots.forEach((plot) => seen.observe(plot));
dark.addEventListener("change", again);
addEventListener("beforeprint", () => { printing = true; document.querySelectorAll("details").forEach((d) => { d.open = true; }); plots.forEach(draw); });
addEventListener("afterprint", () => { printing = false; plots.forEach(draw); });

// A link to a workload opens it.
function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target?.matches("details")) { target.open = true; target.scrollIntoView(); }
}
addEventListener("hashchange", reveal);
reveal();

for (const chip of document.querySelectorAll(".chips [data-contestant]")) {
  chip.addEventListener("click", () => {
    const { contestant } = chip.dataset;
    hidden.has(contestant) ? hidden.delete(contestant) : hidden.add(contestant);
    chip.setAttribute("aria-pressed", String(!hidden.has(contestant)));
    again();
  });
}

const clock = document.getElementById("clock");
clock?.addEventListener("click", () => {
  timed = !timed;
  clock.setAttribute("aria-pressed", String(timed));
  again();
});

// Names sort from A, numbers from the largest; what has no number is last either way.
function sort(head) {
  const table = head.closest("table");
  const column = [...head.parentNode.children].indexOf(head);
  const body = table.tBodies[0];
  const cells = [...body.rows].map((row) => ({ row, text: row.cells[column].dataset.value }));
  const named = cells.some(({ text }) => Number.isNaN(number(text)) && text !== "nan");
  const now = head.getAttribute("aria-sort");
  const rising = now === "none" ? named : now === "descending";
  for (const other of head.parentNode.children) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", rising ? "ascending" : "descending");
  const turn = rising ? 1 : -1;
  cells.sort((a, b) => {
    if (named) return turn * a.text.localeCompare(b.text);
    const [p, q] = [number(a.text), number(b.text)];
    if (Number.isNaN(p) || Number.isNaN(q)) return Number.isNaN(p) - Number.isNaN(q);
    return p === q ? 0 : turn * (p - q);
  });
  body.append(...cells.map(({ row }) => row));
}

function number(text) {
  return text === "inf" ? Infinity : Number(text === "nan" ? NaN : text);
}

for (const button of document.querySelectorAll(".sortable thead button")) {
  button.addEventListener("click", () => sort(button.parentNode));
}
