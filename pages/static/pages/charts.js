// The race's two charts, by uPlot. Colours come from the stylesheet, and change with it.

import { milliseconds, number } from "./format.js";
import { known } from "./measurements.js";

const BINS_A_DECADE = 8;
const LISTS = ["database", "cache"];
const dark = matchMedia("(prefers-color-scheme: dark)");

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const power = (exponent) => milliseconds(10 ** exponent / 1000);

// `rows(measurements, measure)` makes uPlot's data of { database, cache }.
class Chart {
  constructor(element, options, rows) {
    this.rows = rows;
    const size = () => ({ width: element.clientWidth, height: element.clientHeight });
    this.plot = new uPlot({ ...COMMON, ...size(), ...options }, [[], [], []], element);
    this.plot.ctx.canvas.setAttribute("role", "img");
    new ResizeObserver(() => this.plot.setSize(size())).observe(element);
    dark.addEventListener("change", () => this.plot.redraw());
  }

  draw(measurements, measure, label) {
    this.plot.setData(this.rows(measurements, measure));
    this.plot.ctx.canvas.setAttribute("aria-label", label);
  }
}

const COMMON = { legend: { show: false }, cursor: { show: false } };

function axis(options) {
  return {
    stroke: () => colour("quiet"),
    font: "12px system-ui, sans-serif",
    grid: { stroke: () => colour("line"), width: 1 },
    ticks: { show: false },
    ...options,
  };
}

function series(options) {
  return LISTS.map((name) => ({ stroke: () => colour(name), width: 1.5, ...options(name) }));
}

export function latencies(element) {
  const options = {
    scales: { x: { time: false, range: (_, low, high) => [low ?? 1, Math.max(high ?? 0, (low ?? 1) + 9)] }, y: { range: decades } },
    axes: [
      axis({ size: 32, values: (_, splits) => splits.map((at) => (Number.isInteger(at) ? number(at) : "")) }),
      axis({ size: 56, splits: exponents, values: (_, splits) => splits.map(power) }),
    ],
    series: [{}, ...series(() => ({ points: { show: false } }))],
  };
  return new Chart(element, options, (measurements, measure) => {
    const rows = LISTS.map((name) => measurements[name][measure].map((seconds) => seconds === null ? null : exponent(seconds)));
    const seen = measurements.database.answers + measurements.database.errors;
    return [rows[0].map((_, index) => seen - rows[0].length + index + 1), ...rows];
  });
}

export function spread(element) {
  const bars = uPlot.paths.bars({ size: [0.9] });
  const options = {
    scales: { x: { time: false, range: decades }, y: { range: (_, low, high) => [0, Math.max(high ?? 0, 4) * 1.05] } },
    axes: [
      axis({ size: 32, splits: exponents, values: (_, splits) => splits.map(power) }),
      axis({ size: 56, values: (_, splits) => splits.map((at) => (Number.isInteger(at) ? number(at) : "")) }),
    ],
    series: [{}, ...series((name) => ({ fill: () => `${colour(name)}66`, paths: bars, points: { show: false } }))],
  };
  return new Chart(element, options, bins);
}

// Exponents of ten of milliseconds: on them a logarithmic axis is a plain one.
const exponent = (seconds) => Math.log10(Math.max(seconds * 1000, 1e-4));

function decades(_, low, high) {
  if (low === null || low === undefined) return [-2, 2];
  return [Math.floor(low), Math.max(Math.ceil(high), Math.floor(low) + 1)];
}

function exponents(_, index, low, high) {
  const found = [];
  for (let at = Math.ceil(low); at <= high; at += 1) found.push(at);
  return found;
}

function bins(measurements, measure) {
  const binned = LISTS.map((name) => known(measurements[name][measure]).map((seconds) => Math.floor(exponent(seconds) * BINS_A_DECADE)));
  const all = binned.flat();
  if (!all.length) return [[], [], []];
  // Empty ones as well: bars are as wide as the least distance between two of them.
  const first = Math.min(...all);
  const places = Array.from({ length: Math.max(...all) - first + 1 }, (_, index) => first + index);
  const counts = binned.map((found) => places.map((place) => found.filter((one) => one === place).length || null));
  return [places.map((place) => (place + 0.5) / BINS_A_DECADE), ...counts];
}
