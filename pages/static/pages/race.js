// The race: requests to both lists in turn, and what they took.

import { get } from "./api.js";
import { show } from "./answer_json.js";
import * as charts from "./charts.js";
import { milliseconds, number, percent, times } from "./format.js";
import { Measurements } from "./measurements.js";

const HUNDRED = 100;
const STREAM_PAUSE_MS = 250;
const DRAW_EVERY_MS = 100;

const section = document.querySelector(".race");
const find = (selector) => section.querySelector(selector);
const lists = ["database", "cache"].map((name) => ({
  name,
  column: find(`[data-list="${name}"]`),
  answer: find(`[data-answer="${name}"]`),
  path: find(`[data-list="${name}"]`).dataset.path,
  measured: new Measurements(),
}));
const [database, cache] = lists;
const measured = { database: database.measured, cache: cache.measured };
const hundred = find("#race-hundred");
const stream = find("#race-stream");
const status = find("#race-status");
const latencies = charts.latencies(find("#race-latencies"));
const spread = charts.spread(find("#race-spread"));

let isRunning = false;
let lastDrawn = 0;

hundred.addEventListener("click", () => run(HUNDRED / 2, 0));
stream.addEventListener("click", () => {
  if (isRunning) isRunning = false;
  else run(Infinity, STREAM_PAUSE_MS);
});
for (const radio of section.querySelectorAll("[name=race-measure]")) radio.addEventListener("change", drawCharts);
drawCharts();
for (const element of section.querySelectorAll(".needs-script")) element.classList.add("ready");

async function run(pairs, pauseMs) {
  if (isRunning) return;
  begin(pairs === Infinity);
  let done = 0;
  for (; done < pairs && isRunning; done += 1) {
    await whileVisible();
    for (const list of lists) await ask(list);
    // Between two pairs, so that drawing disturbs neither list.
    if (performance.now() - lastDrawn > DRAW_EVERY_MS) await draw();
    if (pauseMs) await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
  await draw();
  end(done);
}

function begin(isStream) {
  isRunning = true;
  // Not `disabled`, which would take the focus away from under somebody's fingers.
  hundred.setAttribute("aria-disabled", "true");
  stream.textContent = stream.dataset.stop;
  status.textContent = isStream ? gettext("Both lists are asked about four times a second, until you stop.") : gettext("Running …");
}

function end(pairs) {
  isRunning = false;
  hundred.removeAttribute("aria-disabled");
  stream.textContent = stream.dataset.go;
  status.textContent = interpolate(
    ngettext("%s request sent to each list.", "%s requests sent to each list.", pairs), [number(pairs)],
  );
}

async function ask(list) {
  const detail = { list: list.name };
  try {
    const { data, status, headers, seconds } = await get(list.path);
    const { results, ...head } = data;
    list.measured.add({ status, data, seconds });
    list.last = { status, data, cacheStatus: headers.get("Cache-Status") };
    list.error = null;
    Object.assign(detail, { ...head, status, seconds, cacheStatus: list.last.cacheStatus });
  } catch (error) {
    list.measured.addError();
    list.error = error;
    Object.assign(detail, { status: error.status, error: error.message });
  }
  document.dispatchEvent(new CustomEvent("store:answer", { detail }));
}

async function draw() {
  for (const list of lists) drawColumn(list);
  drawTimes("server");
  drawTimes("whole");
  drawCharts();
  await painted();
  lastDrawn = performance.now();
}

function drawColumn({ column, answer, measured: found, last, error }) {
  const put = (name, text) => { column.querySelector(`[data-${name}]`).textContent = text; };
  for (const measure of ["server", "whole"]) {
    for (const [name, share] of [["median", 0.5], ["p99", 0.99]]) {
      const seconds = found.quantile(measure, share);
      column.querySelector(`[data-figure="${measure}-${name}"]`).textContent = seconds === null ? "–" : milliseconds(seconds);
    }
  }
  put("count", interpolate(ngettext("%s answer", "%s answers", found.answers), [number(found.answers)]));
  if (found.shareFromCache !== null) {
    put("share", interpolate(gettext("%s from the cache"), [percent(found.shareFromCache)]));
  }
  put("fills", found.fills ? interpolate(ngettext("%s filled it (201)", "%s filled it (201)", found.fills), [number(found.fills)]) : "");
  put("errors", found.errors ? interpolate(ngettext("%s error", "%s errors", found.errors), [number(found.errors)]) : "");
  put("last", error ? refusal(error) : how(last));
  column.classList.toggle("race-failed", Boolean(error));
  if (!last) return;
  answer.querySelector("[data-status]").textContent = last.status;
  answer.querySelector("[data-cache-status]").textContent = last.cacheStatus ? `Cache-Status: ${last.cacheStatus}` : "";
  show(answer.querySelector("[data-json]"), last.data);
}

function refusal(error) {
  if (!error.status) return error.message;
  const { status, message } = error;
  return interpolate(gettext("The last request failed (%(status)s): %(message)s"), { status, message }, true);
}

function how({ status, data }) {
  if (data.stale) return gettext("The last one: an old copy, as the database cannot be reached.");
  if (status === 201) return gettext("The last one was not in the cache (201): read from the database and stored.");
  if (data.from_cache) return gettext("The last one: from the cache.");
  return gettext("The last one: from the database.");
}

function drawTimes(measure) {
  const [slow, quick] = lists.map((list) => list.measured.quantile(measure, 0.5));
  if (slow === null || !quick) return;
  const isFaster = slow >= quick;
  find(`[data-times="${measure}"]`).textContent = times(isFaster ? slow / quick : quick / slow);
  find(`[data-wording="${measure}"]`).textContent = isFaster ? gettext("times faster") : gettext("times slower");
}

function drawCharts() {
  const measure = find("[name=race-measure]:checked").value;
  const [slow, quick] = lists.map((list) => list.measured.quantile(measure, 0.5));
  const label = slow === null || quick === null ? gettext("Nothing has been measured yet.") : interpolate(
    gettext("Half of the requests took less than %(database)s ms from the database and %(cache)s ms from the cache."),
    { database: milliseconds(slow), cache: milliseconds(quick) },
    true,
  );
  latencies.draw(measured, measure, `${gettext("Request by request")}. ${label}`);
  spread.draw(measured, measure, `${gettext("How they spread")}. ${label}`);
}

const painted = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));

function whileVisible() {
  if (!document.hidden) return undefined;
  return new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
}
