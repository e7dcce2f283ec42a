// What is in Redis: asked for every two seconds while somebody looks; times count down in between.

import { get } from "./api.js";
import { bytes, milliseconds, number, percent } from "./format.js";

const POLL_MS = 2000;
const DAY_MS = 86_400_000;
const language = document.documentElement.lang;
const two = new Intl.NumberFormat(language, { minimumIntegerDigits: 2 });
const status = document.getElementById("redis-status");
const entryCard = document.getElementById("entry");
const NOTHING = "–";
// What counts down: pairs of an element and a function that says what it shows after so many milliseconds.
let clocks = [];
let shownAt = 0;

function timeLeft(ms) {
  const days = Math.floor(ms / DAY_MS);
  if (days >= 2) return interpolate(ngettext("%s day", "%s days", days), [number(days)]);
  const seconds = Math.max(0, Math.round(ms / 1000));
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  const end = two.format(seconds % 60);
  return hours ? `${number(hours)}:${two.format(minutes)}:${end}` : `${number(minutes)}:${end}`;
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function countDown(element, text) {
  clocks.push(() => write(element, text(performance.now() - shownAt)));
}

function showCache(cache) {
  const figure = (name, text) => write(document.querySelector(`[data-figure="${name}"]`), text);
  figure("ratio", cache.hit_ratio === null ? NOTHING : percent(cache.hit_ratio));
  figure("reads", interpolate(ngettext("of %s read", "of %s reads", cache.reads), [number(cache.reads)]));
  figure("fills", number(cache.fills));
  if (cache.mean_fill_seconds !== null) {
    figure("fill-time", interpolate(gettext("%s ms each"), [milliseconds(cache.mean_fill_seconds)]));
  }
  figure("waits", number(cache.waits));
  figure("invalidations", number(cache.invalidations));
  figure("listeners", number(cache.event_clients));
  const isOpen = cache.processes_without_redis > 0;
  figure("breaker", isOpen ? gettext("open") : gettext("closed"));
  figure("breaker-means", isOpen ? gettext("the store does without Redis") : gettext("Redis is used as usual"));
}

function showEntry(entry) {
  entryCard.classList.toggle("unknown", !entry);
  if (!entry) return;
  const part = (name) => entryCard.querySelector(`[data-entry="${name}"]`);
  for (const name of ["key", "generation_key", "own_generation", "header", "body_start"]) write(part(name), entry[name]);
  write(part("generation"), entry.generation || gettext("nothing"));
  const isThere = entry.size_bytes > 0;
  let state = gettext("is not there");
  if (isThere) state = entry.is_served ? gettext("is served") : gettext("is not served any more");
  write(part("state"), state);
  part("state").classList.toggle("cache", entry.is_served);
  write(part("size"), isThere ? bytes(entry.size_bytes) : "");
  if (!isThere || entry.ttl_ms === null) write(part("left"), "");
  else countDown(part("left"), (gone) => interpolate(gettext("%s left"), [timeLeft(entry.ttl_ms - gone)]));
}

function showServer(server, place) {
  const section = document.querySelector(`[data-server="${place}"]`);
  if (!section) return; // A node that has joined a cluster since.
  section.querySelector("[data-down]").hidden = server.is_up;
  section.querySelector("[data-refused]").hidden = !server.is_up || server.families !== null;
  section.classList.toggle("unknown", !server.is_up);
  if (server.info) showInfo(section, server.info);
  if (server.families) {
    for (const row of section.querySelectorAll("[data-family]")) showFamily(row, server.families[row.dataset.family]);
  }
}

function showInfo(section, info) {
  const cell = (name, text) => write(section.querySelector(`[data-info="${name}"]`), text);
  cell("memory", bytes(info.memory_bytes));
  cell("limit", info.memory_limit_bytes ? interpolate(gettext("of %s"), [bytes(info.memory_limit_bytes)]) : gettext("no limit set"));
  cell("commands_per_second", number(info.commands_per_second));
  cell("evicted", number(info.evicted));
  cell("software", info.software);
  cell("version", info.version);
}

function showFamily(row, family) {
  const cell = (name) => row.querySelector(`[data-cell="${name}"]`);
  row.classList.toggle("none", !family);
  write(cell("types"), family?.types.join(", ") || NOTHING);
  write(cell("keys"), number(family?.keys ?? 0));
  write(cell("bytes"), family?.bytes == null ? NOTHING : `${family.is_estimate ? "~" : ""}${bytes(family.bytes)}`);
  if (!family || family.shortest_ms === null) write(cell("left"), family?.has_lasting ? gettext("no end") : NOTHING);
  else countDown(cell("left"), (gone) => lives(family, gone));
}

// From the first key to go to the last one.
function lives(family, gone) {
  const first = timeLeft(family.shortest_ms - gone);
  const last = timeLeft(family.longest_ms - gone);
  if (family.has_lasting) return interpolate(gettext("%s, or no end"), [first]);
  return first === last ? first : interpolate(gettext("%s to %s"), [first, last]);
}

function show(state) {
  clocks = [];
  shownAt = performance.now();
  showCache(state.cache);
  showEntry(state.entry);
  state.servers.forEach(showServer);
  clocks.forEach((tick) => tick());
  const isUp = state.servers.every((server) => server.is_up);
  write(status, isUp ? gettext("Updated every 2 seconds, as long as you look at it.")
    : gettext("Redis cannot be reached. Trying again every 2 seconds."));
  status.classList.toggle("error", !isUp);
}

async function poll() {
  if (document.visibilityState === "visible") {
    try {
      show((await get(status.dataset.url)).data);
    } catch (error) {
      write(status, interpolate(gettext("%s Trying again every 2 seconds."), [error.message]));
      status.classList.add("error");
    }
  }
  setTimeout(poll, POLL_MS);
}

show(JSON.parse(document.getElementById("redis-state").textContent));
setInterval(() => clocks.forEach((tick) => tick()), 1000);
setTimeout(poll, POLL_MS);
