"use strict";
// The page of `mmcl serve`: sends a clip, and shows what comes back. Nothing is loaded from elsewhere.

const SERIES = 8; // colours of the style sheet, and lines that a person can tell apart
const HIGH = 190, LEFT = 52, RIGHT = 12, TOP = 10, FOOT = 26; // of a chart, in pixels
const WIDE = window.innerWidth > 760 ? 760 : Math.max(280, window.innerWidth - 66);
const by = (id) => document.getElementById(id);
let about = null, asked = 0, playing = null, last = null;

function make(tag, given = {}, ...children) {
  const one = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name === "class") one.className = value; else if (value !== undefined) one.setAttribute(name, value);
  }
  one.append(...children);
  return one;
}

function draw(tag, given = {}, ...children) {
  const one = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(given)) one.setAttribute(name, value);
  one.append(...children);
  return one;
}

const percent = (p) => `${(100 * p).toFixed(p > 0 && p < 0.1 ? 1 : 0)} %`;
const seconds = (s) => `${s.toFixed(s < 10 ? 1 : 0)} s`;
const signed = (value, digits) => value.toFixed(digits).replace("-", "−");
const listed = (names) => names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;

function state(text, wrong = false) {
  by("state").textContent = text;
  by("state").className = wrong ? "state wrong" : "state";
}

async function open() {
  about = await (await fetch("api/about")).json();
  document.title = `${about.name} · mmcl serve`;
  by("name").textContent = about.name;
  const reads = Object.entries(about.modalities).map(([name, one]) => name === one.type ? name : `${name} (${one.type})`);
  by("about").textContent = `Reads ${listed(reads)}. Answers ${listed(Object.keys(about.tasks))}.`;
  by("takes").textContent = `Several files are one recording. At most ${about.limits.bytes / 1e6} MB and ${seconds(about.limits.seconds)}; any modality may be missing.`;
  by("window").textContent = about.window === null ? "of the evidence over time; the run itself takes whole recordings" : `of the evidence over time; left empty: ${about.window} s, as in training`;
  by("synthetic").hidden = !about.synthetic;
  by("path-row").hidden = !about.paths;
  by("asked-row").hidden = !about.supervised;
}

async function ask(body, files) {
  const mine = ++asked;
  last = [body, files];
  const given = new URLSearchParams();
  if (by("seconds").value) given.set("seconds", by("seconds").value);
  if (by("asked").value) given.set("supervised", by("asked").value);
  state("Reading …");
  by("answers").replaceChildren();
  let answered, reply;
  try {
    const json = typeof body === "string";
    answered = await fetch(`api/look?${given}`, { method: "POST", body, headers: json ? { "content-type": "application/json" } : {} });
    reply = await answered.json();
  } catch (error) {
    answered = null;
  }
  if (mine !== asked) return; // another clip has been dropped meanwhile
  if (answered === null) return state("The server cannot be reached, or ended the upload because it is too large.", true);
  if (!answered.ok) return state(reply.error, true);
  state(`Answered in ${seconds(reply.took)}.`);
  const parts = reply.recordings.map((one) => recording(one, reply.recordings.length === 1 ? files : []));
  by("answers").replaceChildren(...parts, ...refused(reply.refused));
  document.body.dataset.answered = mine;
}

function refused(list) {
  return list.map((one) => make("p", { class: "banner strong" }, make("b", {}, "Passed over:"), one.reason));
}

function recording(one, files) {
  const chips = [...one.modalities.map((name) => make("li", { class: "there" }, name)),
    ...one.missing.map((name) => make("li", { class: "lacks" }, `${name} is missing`))];
  const section = make("section", { class: "recording" }, make("h2", {}, one.id),
    make("p", { class: "quiet" }, `${one.seconds ? `${seconds(one.seconds)}. ` : ""}${standing(one.recording)}`),
    make("ul", { class: "chips", "aria-label": "Modalities" }, ...chips));
  section.append(...one.remarks.map((text) => make("p", { class: "banner" }, make("b", {}, "Look:"), text)));
  const player = playerOf(files);
  if (player) section.append(player);
  for (const answer of one.answers) section.append(task(answer));
  section.append(make("h3", {}, "Evidence over time"));
  section.append(...courses(one, player));
  section.append(make("h3", {}, "Nearest recordings"));
  section.append(...neighbours(one));
  return section;
}

function standing(side) {
  if (side === "new") return "The run has not seen it.";
  if (side === "test") return "A test recording of the run: neither encoders nor heads have seen it.";
  return `A recording of the run's own (${side}): an answer about it says nothing of how well the run answers.`;
}

function playerOf(files) {
  const file = files.find((one) => /^(audio|video)\//.test(one.type));
  if (playing) URL.revokeObjectURL(playing);
  playing = file ? URL.createObjectURL(file) : null;
  return file ? make(file.type.startsWith("video") ? "video" : "audio", { class: "player", controls: "", src: playing }) : null;
}

function task(answer) {
  const kind = about.tasks[answer.task].type;
  const card = make("div", { class: "card task" }, make("h3", {}, answer.task));
  const verdict = make("p", { class: "verdict" });
  if (kind === "regression") {
    const values = typeof answer.prediction === "number" ? { [answer.task]: answer.prediction } : answer.prediction;
    const shown = Object.entries(values).map(([name, value]) => Object.keys(values).length > 1 ? `${name} ${signed(value, 3)}` : signed(value, 3));
    verdict.append(make("b", {}, shown.join(", ")));
    card.append(verdict);
  } else {
    const there = kind === "single-label" ? [answer.prediction] : answer.prediction;
    verdict.append(make("b", {}, there.length ? there.join(", ") : "none"));
    if (kind === "single-label") verdict.append(`, ${percent(answer.probabilities[answer.prediction])}`);
    const rows = Object.entries(answer.probabilities).sort((a, b) => kind === "single-label" ? b[1] - a[1] : 0);
    card.append(verdict, make("ul", { class: "bars", "aria-label": `Probabilities of ${answer.task}` }, ...rows.map(([name, p]) => {
      const fill = make("span", { class: "fill" });
      fill.style.width = `${100 * p}%`;
      return make("li", { class: there.includes(name) ? "best" : "" }, make("span", { class: "name" }, name),
        make("span", { class: "track" }, fill), make("span", { class: "value" }, percent(p)));
    })));
  }
  const mean = answer.asked > 1 ? `, the mean of ${answer.asked}` : "";
  card.append(make("p", { class: "quiet" }, `By the ${answer.supervised ? "network" : "head"} “${answer.head}” ${answer.supervised ? "that labels trained " : ""}on ${answer.input === "all" ? "all modalities" : answer.input}${mean}.`));
  return card;
}

// Of a task's windows: name → one value a window.
function seriesOf(windows, kind) {
  const names = kind === "regression" ? (typeof windows[0].prediction === "number" ? null : Object.keys(windows[0].prediction)) : Object.keys(windows[0].probabilities);
  if (names === null) return [[windows[0].task, windows.map((one) => one.prediction)]];
  const every = names.map((name) => [name, windows.map((one) => (kind === "regression" ? one.prediction : one.probabilities)[name])]);
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  return every.length > SERIES ? every.sort((a, b) => mean(b[1]) - mean(a[1])).slice(0, SERIES) : every;
}

function courses(one, player) {
  if (!one.course.length) return [make("p", { class: "quiet" }, one.reasons.course ?? "There is none.")];
  return Object.entries(about.tasks).flatMap(([name, { type }]) => {
    const windows = one.course.filter((answer) => answer.task === name);
    return windows.length ? [course(name, type, windows, one.seconds, player)] : [];
  });
}

function course(name, kind, windows, whole, player) {
  const series = seriesOf(windows, kind);
  const end = Math.max(whole, ...windows.map((one) => one.end), 0.001);
  const values = series.flatMap((one) => one[1]);
  const spread = Math.max(...values) - Math.min(...values) || 1;
  const [low, high] = kind === "regression" ? [Math.min(...values) - spread / 10, Math.max(...values) + spread / 10] : [0, 1];
  const x = (s) => LEFT + (WIDE - LEFT - RIGHT) * s / end, y = (v) => TOP + (HIGH - TOP - FOOT) * (1 - (v - low) / (high - low));
  const svg = draw("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": `${name} in ${windows.length} windows over ${seconds(end)}` });
  for (const share of [0, 0.5, 1]) {
    const v = low + share * (high - low), label = kind === "regression" ? signed(v, 2) : percent(v).replace(".0", "");
    svg.append(draw("line", { class: "rule", x1: LEFT, x2: WIDE - RIGHT, y1: y(v), y2: y(v) }), draw("text", { x: LEFT - 6, y: y(v) + 4, "text-anchor": "end" }, label));
  }
  for (const share of WIDE > 500 ? [0, 0.25, 0.5, 0.75, 1] : [0, 0.5, 1]) {
    const anchor = share === 0 ? "start" : share === 1 ? "end" : "middle";
    svg.append(draw("text", { x: x(share * end), y: HIGH - 6, "text-anchor": anchor }, seconds(share * end)));
  }
  const centres = windows.map((one) => (one.start + one.end) / 2);
  series.forEach(([, line], k) => {
    svg.append(draw("polyline", { class: `line s${k + 1}`, points: line.map((v, i) => `${x(centres[i])},${y(v)}`).join(" ") }));
    line.forEach((v, i) => svg.append(draw("circle", { class: `point f${k + 1}`, cx: x(centres[i]), cy: y(v), r: windows.length > 60 ? 2 : 4 })));
  });
  if (player) {
    const now = draw("line", { class: "now", y1: TOP, y2: HIGH - FOOT });
    player.addEventListener("play", () => svg.append(now), { once: true });
    player.addEventListener("seeked", () => svg.append(now), { once: true });
    player.addEventListener("timeupdate", () => ["x1", "x2"].forEach((side) => now.setAttribute(side, x(Math.min(player.currentTime, end)))));
    svg.addEventListener("click", (event) => {
      const box = svg.getBoundingClientRect(), at = (event.clientX - box.left) / box.width * WIDE;
      player.currentTime = Math.max(0, Math.min(end, (at - LEFT) / (WIDE - LEFT - RIGHT) * end));
    });
  }
  const keys = series.map(([label], k) => make("span", {}, make("i", { class: `swatch f${k + 1}` }), label));
  const length = windows[0].end - windows[0].start;
  const words = windows.length === 1 ? "One window only: the clip is no longer than that." : `${windows.length} windows of ${seconds(length)}, each a dot at its middle.`;
  return make("div", { class: "card course" }, make("p", { class: "key" }, make("b", {}, name), ...keys), svg, make("p", { class: "quiet" }, words));
}

function neighbours(one) {
  if (!one.neighbours.length) return [make("p", { class: "quiet" }, one.reasons.neighbours ?? "There are none.")];
  const tasks = Object.keys(about.tasks).filter((name) => one.neighbours.some((near) => near.labels && name in near.labels));
  const shown = (value) => value === undefined ? "" : Array.isArray(value) ? value.map((v) => typeof v === "number" ? signed(v, 2) : v).join(", ") || "none" : typeof value === "number" ? signed(value, 2) : value;
  const head = make("tr", {}, ...["Recording", "Cosine", ...tasks, "Modalities"].map((text) => make("th", { scope: "col" }, text)));
  const rows = one.neighbours.map((near) => make("tr", {}, make("th", { scope: "row", class: "break" }, near.id), make("td", { class: "number" }, signed(near.similarity, 3)),
    ...tasks.map((name) => make("td", {}, shown(near.labels?.[name]))), make("td", {}, near.modalities.join(", "))));
  const among = Array.isArray(about.neighbours) ? about.neighbours.join(", ") : about.neighbours;
  return [make("p", { class: "quiet" }, `Among ${among}, by the embeddings that were contrasted.`),
    make("div", { class: "table", tabindex: "0", role: "region", "aria-label": "Nearest recordings" }, make("table", { class: "small" }, make("thead", {}, head), make("tbody", {}, ...rows)))];
}

function send(files) {
  if (!files.length) return;
  const form = new FormData();
  for (const file of files) form.append("file", file, file.name);
  ask(form, files);
}

by("files").addEventListener("change", () => { send([...by("files").files]); by("files").value = ""; });
by("asked").addEventListener("change", () => { if (last) ask(...last); });
by("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (by("path").value.trim()) ask(JSON.stringify({ path: by("path").value.trim() }), []);
});
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    by("drop").classList.toggle("over", name === "dragover");
    if (name === "drop") send([...event.dataTransfer.files]);
  });
}
open().catch(() => state("The server cannot be reached.", true));
