// The charts of a sale, by uPlot. What a line means is told by its legend and its dashes, not by its
// colour alone.

import { h } from "../lib/dom.js";
import { clockTime, count } from "../lib/format.js";

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const HEIGHT = 180;

function axes() {
  const plain = { stroke: style("--ink-soft"), font: `12px ${style("--font")}`, grid: { stroke: style("--rule"), width: 1 }, ticks: { show: false } };
  const moments = (_, ticks) => ticks.map((t) => clockTime(t * 1000).slice(0, t % 60 === 0 && ticks[1] - ticks[0] >= 60 ? 5 : 8));
  return [{ ...plain, grid: { show: false }, values: moments, incrs: [15, 30, 60, 120] }, { ...plain, size: 56, values: (_, values) => values.map((v) => (v === null ? "" : Number.isInteger(v) ? count(v) : String(v))) }];
}

const value = (unit) => (_, v) => (v === null || v === undefined ? "–" : `${Number.isInteger(v) ? count(v) : v.toFixed(2)}${unit}`);

const line = (label, colour, { dash, fill, unit = "", width = 2, points = { show: false } } = {}) => ({
  label, stroke: style(colour), width, dash, fill: fill && style(fill), value: value(unit), points, spanGaps: false,
});

// Each: a title, what it says aloud, its series, and the columns it takes.
const CHARTS = [
  {
    id: "stock", title: "Stock", columns: ["stock", "committed", "sold"],
    series: () => [line("Stock", "--rule-strong", { dash: [2, 3] }), line("Held or sold", "--accent", { fill: "--accent-wash" }), line("Sold", "--good", { fill: "--good-wash", dash: [8, 3] })],
  },
  { id: "line", title: "People in line", columns: ["waiting"], series: () => [line("In line", "--accent", { fill: "--accent-wash" })] },
  { id: "attempts", title: "Attempts per second", columns: ["attempts"], series: () => [line("Attempts", "--accent", { fill: "--accent-wash" })] },
  {
    id: "latency", title: "Time to commit and decide, ms", columns: ["p50", "p99"],
    series: () => [line("Median", "--accent", { unit: " ms", points: {} }), line("99th percentile", "--warn", { dash: [6, 3], unit: " ms", points: {} })],
  },
];

export function charts() {
  const boxes = CHARTS.map((c) => ({ ...c, box: h("div", { class: "chart", id: `chart-${c.id}`, role: "img", "aria-label": c.title }), plot: null }));
  const element = h("div", { class: "grid" }, boxes.map((c) => h("section", { class: "card" }, h("header", {}, h("h2", {}, c.title)), c.box)));
  let latest = null;

  function build() {
    for (const c of boxes) {
      c.plot?.destroy();
      c.plot = new uPlot({
        width: Math.max(200, c.box.clientWidth), height: HEIGHT,
        scales: { y: { range: (_, low, high) => [0, Math.max(1, high === null ? 1 : high * 1.08)] } },
        series: [{}, ...c.series()],
        axes: axes(),
        cursor: { drag: { x: false, y: false }, points: { size: 6 } },
        legend: { live: true },
      }, [[], ...c.columns.map(() => [])], c.box);
    }
    if (latest) draw(latest);
  }

  function draw(columns) {
    latest = columns;
    for (const c of boxes) {
      c.plot?.setData([columns.x, ...c.columns.map((name) => columns[name])]);
      // Unless somebody points at a moment, the legend tells the newest that is known.
      const newest = columns[c.columns[0]].findLastIndex((v) => v !== null);
      if (c.plot && c.plot.cursor.idx == null && newest >= 0) c.plot.setLegend({ idx: newest });
      const last = c.columns.map((name, i) => {
        const known = columns[name].findLast((v) => v !== null);
        return known === undefined ? null : `${c.plot?.series[i + 1].label} ${Number.isInteger(known) ? count(known) : known.toFixed(2)}`;
      }).filter(Boolean);
      c.box.setAttribute("aria-label", `${c.title}. ${last.length > 0 ? `Now: ${last.join(", ")}.` : "Nothing to show yet."}`);
    }
  }

  const resize = new ResizeObserver(() => {
    for (const c of boxes) if (c.box.clientWidth > 0) c.plot?.setSize({ width: c.box.clientWidth, height: HEIGHT });
  });
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", build);
  return {
    element,
    begin() {
      build();
      resize.observe(element);
    },
    draw,
    end() {
      resize.disconnect();
      scheme.removeEventListener("change", build);
      for (const c of boxes) c.plot?.destroy();
    },
  };
}
