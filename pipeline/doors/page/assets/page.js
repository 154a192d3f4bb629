"use strict";
// Plots, and nothing that the server could do. Every plot has its numbers beside it as JSON.
(() => {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const plots = new Map(); // element → its plot

  const axes = (more) => [{}, {}].map((each, at) => ({
    ...each, stroke: colour("soft"), grid: { stroke: colour("line"), width: 1 },
    ticks: { stroke: colour("line"), width: 1 }, ...more[at],
  }));
  const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
  const values = (_, ticks) => ticks.map((each) => compact.format(each));
  const ago = (_, ticks) => ticks.map((each) => (each === 0 ? "now" : `${Math.round(each)} s`));
  const line = (name, label) => ({ label: label || name, stroke: colour(name), width: 2, points: { show: false } });

  const KINDS = {
    fates(data) {
      const names = ["counted", "unmatched", "duplicate", "rejected", "corrected"];
      return {
        data: [data.x, ...names.map((name) => data[name])],
        options: {
          scales: { x: { time: false } }, axes: axes([{ values: ago }, { values, size: 60 }]),
          series: [{ label: "s", value: (_, at) => (at === null ? "" : `${at} s`) }, ...names.map((name) => line(name))],
        },
      };
    },
    lag(data) {
      return {
        data: [data.x, data.lag],
        options: {
          scales: { x: { time: false } }, axes: axes([{ values: ago }, { values, size: 60 }]),
          series: [{ label: "s", value: (_, at) => (at === null ? "" : `${at} s`) }, line("lag")],
        },
      };
    },
    rejected(data) {
      return {
        data: [data.x, data.rejected],
        options: {
          scales: { x: { time: false } }, axes: axes([{ values: ago }, { values, size: 60 }]),
          series: [{ label: "s", value: (_, at) => (at === null ? "" : `${at} s`) }, line("rejected")],
        },
      };
    },
    usage(data) {
      const colours = ["link", "counted", "duplicate", "lag", "rejected", "unmatched"];
      const bars = uPlot.paths.bars({ size: [0.7, 60] });
      const one = data.series.length === 1;
      return {
        data: [data.x, ...data.series.map((each) => each.y.map((text) => (text === null ? null : Number(text))))],
        options: {
          tzDate: (at) => uPlot.tzDate(new Date(at * 1e3), data.zone),
          axes: axes([{}, { values, size: 60 }]), scales: { x: { range: (_, low, high) => [low - data.step / 2, high + data.step / 2] } },
          series: [{ value: (_, at) => (at === null ? "" : new Date(at * 1e3).toISOString().slice(0, 16).replace("T", " ")) },
            ...data.series.map((each, at) => ({
              ...line(colours[at % colours.length], each.label),
              ...(one ? { fill: colour("link"), paths: bars } : { points: { show: true, size: 4 } }),
            }))],
        },
      };
    },
  };

  const draw = (figure) => {
    const canvas = figure.querySelector(".canvas");
    const data = JSON.parse(figure.querySelector("script").textContent);
    const { data: numbers, options } = KINDS[figure.dataset.plot](data);
    const size = { width: Math.max(canvas.clientWidth, 200), height: 240 };
    plots.get(figure)?.destroy();
    plots.set(figure, new uPlot({ ...size, ...options, legend: { live: true } }, numbers, canvas));
  };
  const drawAll = (within) => {
    for (const figure of plots.keys()) if (!figure.isConnected) { plots.get(figure).destroy(); plots.delete(figure); }
    for (const figure of within.querySelectorAll("[data-plot]")) draw(figure);
  };

  document.addEventListener("DOMContentLoaded", () => drawAll(document));
  document.addEventListener("htmx:afterSettle", (event) => drawAll(event.target));
  let timer;
  const again = () => { clearTimeout(timer); timer = setTimeout(() => drawAll(document), 150); };
  addEventListener("resize", again);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  // "/" goes to the first field of the view, as in many programs.
  document.addEventListener("keydown", (event) => {
    const writes = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName || "");
    if (event.key !== "/" || writes || event.ctrlKey || event.metaKey || event.altKey) return;
    const field = document.querySelector("main input:not([type=hidden]), main select, main textarea");
    if (field) { event.preventDefault(); field.focus(); }
  });
})();
