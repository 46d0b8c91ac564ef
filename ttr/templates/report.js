"use strict";
let charts, pictures;

// Data and plotly lie in the page as gzip in base64.
async function unpack(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

const chosen = (widget) => Object.fromEntries([...(widget ? widget.querySelectorAll("[data-part]") : [])]
  .filter((control) => control.type !== "radio" || control.checked)
  .map((control) => [control.dataset.part, control.value]));

// The name of the axis below stands in the middle of it: on several lines where it would leave the figure.
function fold(plot) {
  const { l, w, r } = plot._fullLayout._size, letters = Math.max(12, (w + 2 * Math.min(l, r)) / 7);
  const axis = plot.dataset.axis || "", text = folded(axis, letters);
  if (axis && text !== plot.layout.xaxis.title.text) Plotly.relayout(plot, { "xaxis.title.text": text });
}

function folded(text, letters) {
  return text.split(" ").reduce((lines, word) => {
    if (`${lines.at(-1)} ${word}`.length <= letters) lines[lines.length - 1] += ` ${word}`; else lines.push(word);
    return lines;
  }, [""]).map((part) => part.trim()).filter(Boolean).join("<br>");
}

function draw(plot) {
  const choice = chosen(plot.closest(".widget"));
  const chart = charts[plot.dataset.chart];
  const variant = chart.variants[(plot.dataset.parts || "").split(" ").map((part) => choice[part] || "").join("|")];
  const layout = structuredClone(chart.layouts[variant.layout]);
  layout.font.color = getComputedStyle(document.body).color;
  plot.dataset.axis = layout.xaxis.title.text || "";
  if (plot.dataset.mark) layout.shapes = [{ type: "line", yref: "paper", y0: 0, y1: 1, x0: choice[plot.dataset.mark], x1: choice[plot.dataset.mark], line: { color: "#7f7f7f", width: 1, dash: "dot" } }];
  // A finger scrolls past a figure; it does not zoom it.
  // Names above a heatmap's columns turn where they would touch.
  const above = variant.data[0] && variant.data[0].type === "heatmap" && layout.xaxis.tickangle === undefined ? variant.data[0].x : [];
  if (above.length && 6.5 * Math.max(...above.map((name) => name.length)) > (plot.clientWidth - 150) / above.length) layout.xaxis.tickangle = -45;
  const drawn = Plotly.react(plot, structuredClone(variant.data), { ...layout, dragmode: false }, { displayModeBar: false, responsive: true });
  if (plot.clientWidth) fold(plot);
  return drawn;
}

function paint(widget) {
  const shown = pictures[widget.dataset.model], kind = widget.dataset.kind;
  const { image, condition, query, scale } = chosen(widget);
  for (const map of widget.querySelectorAll(".map")) {
    const which = map.dataset.condition || condition, values = map.querySelector(".values"), photo = map.querySelector(".photo");
    if (photo) { photo.src = shown.pixels[image]; photo.alt = values ? "" : `${shown.images[image]}, the input`; }
    if (!values) continue;
    let uri = (scale ? shown[kind][scale] : shown[kind])[shown.conditions.indexOf(which)][image];
    if (kind === "attention") uri = uri[query];
    const query_of = shown.queries[query] === "cls" ? "CLS" : shown.queries[query];
    const what = { norms: "patch norms", colours: "patch features in three colours", attention: `attention of ${query_of}` }[kind];
    values.hidden = !uri;
    if (uri) values.src = uri; else values.removeAttribute("src");
    values.alt = `${what}, ${shown.images[image]}, ${which}`;
  }
  for (const bar of widget.querySelectorAll("[data-scale]")) bar.hidden = bar.dataset.scale !== scale;
  widget.querySelector("[data-name]").textContent = condition;
  for (const button of widget.querySelectorAll(".strip button")) button.setAttribute("aria-pressed", button.dataset.condition === condition);
}

function refresh(widget) {
  for (const output of widget.querySelectorAll("output")) output.value = output.parentElement.querySelector("input").value;
  if (widget.dataset.kind) paint(widget); else widget.querySelectorAll(".plot").forEach(draw);
}

// Paper is narrower than a screen: figures are drawn anew at its width, and back. Nobody opens there what is
// folded: tables stand open on it.
function paper(on) {
  document.body.classList.toggle("paper", on);
  for (const part of document.querySelectorAll(on ? "details:not([open]):has(table)" : "details.unfolded")) {
    part.open = on;
    part.classList.toggle("unfolded", on);
  }
  for (const plot of document.querySelectorAll(".plot.js-plotly-plot")) {
    Plotly.relayout(plot, { width: on ? plot.clientWidth : null, autosize: !on });
    fold(plot);
  }
}

async function start() {
  [charts, pictures] = (await Promise.all(["charts", "pictures"].map(unpack))).map((text) => JSON.parse(text));
  if (Object.keys(charts).length) {
    const plotly = document.createElement("script");
    plotly.textContent = await unpack("plotly");
    document.head.append(plotly);
  }
  for (const widget of document.querySelectorAll(".widget")) {
    widget.addEventListener("input", () => refresh(widget));
    for (const button of widget.querySelectorAll(".strip button")) button.addEventListener("click", () => {
      widget.querySelector("[data-part=condition]").value = button.dataset.condition;
      refresh(widget);
    });
    refresh(widget);
  }
  for (const plot of document.querySelectorAll(".plot")) if (!plot.closest(".widget")) draw(plot);
  // A plot in a closed part has no width until it is opened.
  for (const part of document.querySelectorAll("details")) part.addEventListener("toggle", () => part.querySelectorAll(".plot").forEach((plot) => Plotly.Plots.resize(plot)));
  addEventListener("beforeprint", () => paper(true));
  addEventListener("afterprint", () => paper(false));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.querySelectorAll(".plot").forEach(draw));
  document.body.dataset.ready = "";
}
start();
