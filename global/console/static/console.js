// Draws the charts and keeps the page up to date. Without it the pages still show every number.
"use strict";

const live = document.getElementById("live");
const state = document.getElementById("state");
const pause = document.getElementById("pause");
const form = document.querySelector(".controls");

const COLOURS = {
  scheduled: "#2a9d62", unschedulable: "#d98e04", error: "#c8323c",
  active: "#1f8fc4", backoff: "#8a939b", gated: "#7a6ff0",
};
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// -- charts ------------------------------------------------------------------------------

function look() {
  const axis = { gridcolor: style("--line"), zerolinecolor: style("--line"), automargin: true };
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: style("--ink"), family: "system-ui, sans-serif", size: 12 },
    margin: { l: 48, r: 12, t: 8, b: 36 }, xaxis: { ...axis }, yaxis: { ...axis },
    legend: { orientation: "h", y: 1.12 }, hoverlabel: { font: { size: 13 } },
  };
}

function lines(chart) {
  const traces = chart.lines.map((line) => ({
    name: line.name, x: line.times.map((at) => new Date(at * 1000)), y: line.values,
    mode: "lines", line: { width: 2, color: COLOURS[line.name] },
    hovertemplate: "%{y:.3g} " + chart.unit + "<extra>" + line.name + "</extra>",
  }));
  const layout = look();
  layout.yaxis.rangemode = "tozero";
  layout.hovermode = "x unified";
  return [traces, layout];
}

function heat(chart) {
  const layout = look();
  layout.yaxis.autorange = "reversed";
  layout.xaxis.tickangle = -45;
  layout.xaxis.nticks = layout.yaxis.nticks = 20;
  layout.xaxis.constrain = "domain";
  return [[{
    type: "heatmap", x: chart.labels, y: chart.labels, z: chart.cells, colorscale: "Viridis",
    colorbar: { title: { text: "ms" }, thickness: 12 }, hoverongaps: false,
    hovertemplate: "%{y} → %{x}<br>%{z:.3g} ms<extra></extra>",
  }], layout];
}

function graph(chart) {
  const x = [], y = [];
  for (const [one, other] of chart.edges) {
    x.push(chart.x[one], chart.x[other], null);
    y.push(chart.y[one], chart.y[other], null);
  }
  const few = chart.names.length <= 40;
  const layout = look();
  layout.showlegend = false;
  layout.xaxis.title = { text: "ms" };
  layout.yaxis.scaleanchor = "x";
  return [[
    { x, y, mode: "lines", line: { color: style("--line"), width: 1.5 }, hoverinfo: "skip" },
    {
      x: chart.x, y: chart.y, text: chart.names, mode: few ? "markers+text" : "markers",
      textposition: "top center", marker: { size: few ? 12 : 7, color: style("--accent") },
      hovertemplate: "%{text}<extra></extra>",
    },
  ], layout];
}

function packing(chart) {
  const traces = Object.entries(chart.groups).map(([name, shares]) => ({
    type: "histogram", name, x: shares, xbins: { start: 0, end: 110, size: 10 }, opacity: 0.75,
  }));
  const layout = look();
  layout.barmode = "group";
  layout.xaxis.title = { text: "% asked for" };
  layout.yaxis.title = { text: "nodes" };
  layout.xaxis.range = [0, 110];
  return [traces, layout];
}

const KINDS = { rates: lines, queues: lines, heat, graph, packing };

let library = null;
function plotly() {
  library ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "/static/plotly.min.js";
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => reject(new Error("the chart library did not load"));
    document.head.append(script);
  });
  return library;
}

async function draw() {
  const places = [...live.querySelectorAll(".chart")];
  if (!places.length) return;
  let Plotly;
  try {
    Plotly = await plotly();
  } catch (error) {
    for (const place of places) place.textContent = error.message;
    return;
  }
  for (const place of places) {
    if (!place.isConnected) continue;
    const data = live.querySelector(`script[data-for="${place.id}"]`);
    const [traces, layout] = KINDS[place.dataset.kind](JSON.parse(data.textContent));
    place.querySelector(".loading")?.remove();
    await Plotly.newPlot(place, traces, layout, { displayModeBar: false, responsive: true });
    place.setAttribute("aria-busy", "false");
  }
}

// -- keeping up to date ------------------------------------------------------------------

let paused = false;
let busy = false;

async function refresh() {
  const reading = live.contains(document.activeElement) && document.activeElement !== live;
  if (paused || busy || reading || document.hidden || !getSelection().isCollapsed) return;
  busy = true;
  try {
    const url = new URL(location.href);
    url.searchParams.set("fragment", "1");
    const answer = await fetch(url, { headers: { accept: "text/html" } });
    if (!answer.ok) throw new Error(`the console answers ${answer.status}`);
    const text = await answer.text();
    const scrolled = live.querySelector(".scroll")?.scrollTop ?? 0;
    const heights = live.offsetHeight;
    live.style.minHeight = `${heights}px`;
    live.innerHTML = text;
    await draw();
    live.style.minHeight = "";
    const table = live.querySelector(".scroll");
    if (table) table.scrollTop = scrolled;
    state.textContent = `updated ${new Date().toLocaleTimeString()}`;
  } catch (error) {
    state.textContent = `not updated: ${error.message}`;
  } finally {
    busy = false;
  }
}

function follow() {
  const events = new EventSource("/events");
  let first = true;
  events.addEventListener("beat", () => {
    if (!first) refresh();
    first = false;
  });
  events.onerror = () => { state.textContent = "the console is away; trying again"; };
}

if (!("still" in live.dataset)) {
  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    state.textContent = paused ? "paused" : "";
  });
  follow();
}
form.classList.add("scripted");
form.addEventListener("change", () => form.requestSubmit());
draw();
