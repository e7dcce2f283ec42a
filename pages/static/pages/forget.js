// Make it forget: each button's way through the store, step by step, as it can be seen from outside.

import { get, post } from "./api.js";
import { duration, milliseconds, number } from "./format.js";
import { follow } from "./live.js";

const EVENT_WAIT_MS = 3000;
const LOOK_MS = 1000; // How often both lists are asked during an outage.

const section = document.querySelector(".forget");
const find = (selector) => section.querySelector(selector);
const summary = find("[data-summary]");
const steps = find("[data-steps]");
const everywhere = find("[data-everywhere]");
const lists = { cached: section.dataset.cached, store: section.dataset.store };

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const shown = (price) => (price === null ? gettext("no price") : number(price));
const forms = [...section.querySelectorAll("[data-button]")];

// --- What happened -----------------------------------------------------------------------------------

// The steps of one press of a button, in the order of their times.
class Story {
  constructor() {
    this.started = performance.now();
    steps.replaceChildren();
    listeners.clear(); // What comes now would be told in the wrong story.
    everywhere.hidden = true;
    summary.textContent = gettext("One moment …");
  }

  tell(text, kind = "") {
    const at = performance.now() - this.started;
    const item = document.createElement("li");
    const time = document.createElement("span");
    const what = document.createElement("span");
    time.className = "at";
    time.textContent = interpolate(gettext("%s ms"), [number(Math.round(at))]);
    what.textContent = text;
    item.className = kind;
    item.append(time, what);
    steps.append(item);
  }

  end(text) {
    summary.textContent = text;
  }
}

// Says how an answer of a list was come by, from its status and its Cache-Status (RFC 9211).
function told({ status, headers }) {
  const found = headers.get("Cache-Status") || "";
  if (status === 201) return gettext("201: a miss. It read the database and filled the cache.");
  if (found.includes("collapsed")) return gettext("200: a miss. It waited for another request that was filling the cache.");
  if (found.includes("fwd=stale")) return gettext("200: it filled the cache anew ahead of time.");
  if (found.includes("fwd=bypass")) return gettext("200: read from the database, past the cache.");
  if (found.includes("stale-if-error")) return gettext("200: the last good list from the cache, as the database is down.");
  if (found.includes("hit")) return gettext("200: a hit, from the cache.");
  return interpolate(gettext("%s: read from the database."), [status]);
}

const kindOf = (answer) => ((answer.headers.get("Cache-Status") || "").includes("; hit") ? "cache" : "database");

async function askCached(story) {
  const answer = await get(lists.cached);
  story.tell(interpolate(gettext("The next request was answered %s"), [told(answer)]), kindOf(answer));
  return answer;
}

// --- Events ------------------------------------------------------------------------------------------

const listeners = new Set();
let asks = 0; // for the list
const heardOf = new Set(); // Products with an event since the list was asked for, which it may not know of.

// Tells when the event comes, late ones too; the story goes on with it, or without it after EVENT_WAIT_MS.
function priceEvent(story, product, price) {
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      if (listeners.has(listener)) story.tell(gettext("No event has arrived yet; it takes Redis."), "bad");
      resolve();
    }, EVENT_WAIT_MS);
    const listener = (event) => {
      if (String(event.id) !== product || event.price !== price) return;
      listeners.delete(listener);
      clearTimeout(timer);
      story.tell(interpolate(gettext("The event arrived: everybody who listens knows that it costs %s."), [shown(price)]), "cache");
      resolve();
    };
    listeners.add(listener);
  });
}

function heard(name, event) {
  if (name === "bulk" || name === "reset") readAgain();
  if (name !== "updated") return;
  heardOf.add(String(event.id));
  for (const listener of [...listeners]) listener(event);
  show(event.id, event.price);
}

// Many products have changed, or events have been missed.
async function readAgain() {
  const options = section.querySelectorAll("option");
  if (!options.length) return;
  heardOf.clear();
  const asked = asks += 1;
  try {
    const { data } = await get(`${lists.store}?limit=${options.length}`);
    if (asked !== asks) return; // A later list knows more.
    for (const one of data.results) if (!heardOf.has(String(one.id))) show(one.id, one.price);
  } catch {
    // Who saves a price is told what it was before.
  }
}

function showState(isConnected) {
  const tag = find("[data-live]");
  tag.classList.toggle("cache", isConnected);
  tag.textContent = isConnected ? gettext("Live events: connected") : gettext("Live events: reconnecting …");
}

// --- A price -----------------------------------------------------------------------------------------

const option = (product) => find(`option[value="${product}"]`);

function show(product, price) {
  const one = option(product);
  if (!one) return;
  one.dataset.price = price ?? "";
  one.textContent = `${one.dataset.name} · ${shown(price)}`;
}

const priceIn = (answer, product) => answer.data.results.find((one) => String(one.id) === product)?.price ?? null;

async function changePrice(form) {
  const product = form.elements.product.value;
  const price = Number(form.elements.price.value);
  const expected = option(product).dataset.price;
  const story = new Story();
  const event = priceEvent(story, product, price);
  const { data } = await post(form.action, new FormData(form));
  story.tell(interpolate(
    gettext("The answer arrived: %(name)s is saved. The write took the server %(ms)s ms."),
    { name: data.name, ms: milliseconds(data.seconds) }, true), "database");
  if (String(data.before ?? "") !== expected) {
    story.tell(interpolate(
      gettext("Somebody else had changed it meanwhile: it cost %(before)s, no longer %(expected)s. Yours holds now."),
      { before: shown(data.before), expected: shown(expected === "" ? null : Number(expected)) }, true), "bad");
  }
  show(product, data.price);
  await event;
  const cached = await askCached(story);
  const [store, own] = await Promise.all([get(lists.store), get(`${lists.store}products/${product}/`)]);
  const found = { cached: priceIn(cached, product), store: priceIn(store, product), product: own.data.price };
  for (const [where, one] of Object.entries(found)) find(`[data-price-of=${where}]`).textContent = shown(one);
  everywhere.hidden = false;
  const isRight = Object.values(found).every((one) => one === price);
  const texts = { name: data.name, before: shown(data.before), price: shown(price) };
  story.end(interpolate(isRight
    ? gettext("%(name)s costs %(price)s everywhere; before, it was %(before)s.")
    : gettext("%(name)s was changed to %(price)s, and changed again since."), texts, true));
}

// --- Forgetting --------------------------------------------------------------------------------------

async function forget(form) {
  const story = new Story();
  const { data } = await post(form.action, new FormData(form));
  story.tell(data.text);
  const answer = await askCached(story);
  story.end(`${data.text} ${interpolate(gettext("The next request was answered %s"), [told(answer)])}`);
}

async function stampede(form) {
  const story = new Story();
  const { data } = await post(form.action, new FormData(form));
  const counts = { filled: data.statuses[201] || 0, others: data.statuses[200] || 0 };
  story.tell(interpolate(ngettext(
    "%s request was answered 201: it filled the cache.",
    "%s requests were answered 201: they filled the cache.", counts.filled), [number(counts.filled)]), "database");
  story.tell(interpolate(ngettext(
    "%s request was answered 200, with the same list.",
    "%s requests were answered 200, with the same list.", counts.others), [number(counts.others)]), "cache");
  story.tell(interpolate(gettext("The slowest answer took %s ms."), [milliseconds(data.slowest_seconds)]));
  if (data.queries === 0) story.tell(gettext("Another process of the store read the database for all of them."));
  if (data.queries > 1) story.tell(gettext("The machine was so busy that some did not wait for the cache any longer."));
  story.end(data.text);
}

// --- Outages -----------------------------------------------------------------------------------------

const outages = {
  redis: {
    until: 0,
    meanwhile: gettext("Each process notices at its next request, leaves Redis alone and reads the database."),
    end: gettext("Redis is back. Of %(asked)s requests each, the cached list answered %(cached)s and the uncached one %(store)s."),
  },
  database: {
    until: 0,
    meanwhile: gettext("Each process notices at its next query; from then on one a second tries again, and nobody else waits."),
    end: gettext("The database is back. Of %(asked)s requests each, the cached list answered %(cached)s and the uncached one %(store)s."),
  },
};
const answered = { asked: 0, cached: 0, store: 0 };
let isLooking = false;

const secondsLeft = (what) => (outages[what].until - performance.now()) / 1000;

async function stop(form) {
  const story = new Story();
  const { data } = await post(form.action, new FormData(form));
  story.tell(outages[form.dataset.button].meanwhile, "bad");
  story.end(data.text);
  beginOutage(form.dataset.button, data.seconds);
}

function beginOutage(what, seconds) {
  outages[what].until = performance.now() + seconds * 1000;
  for (const one of Object.keys(outages)) find(`[data-outage-of=${one}]`).hidden = !outages[one].until;
  find("[data-outage]").hidden = false;
  if (!isLooking) lookOn();
}

// Counts down, and asks both lists, until nothing is stopped any more.
async function lookOn() {
  isLooking = true;
  Object.assign(answered, { asked: 0, cached: 0, store: 0 });
  for (let stopped = Object.keys(outages); stopped.length;) {
    stopped = stopped.filter((what) => outages[what].until);
    for (const what of stopped) {
      find(`[data-outage-of=${what}] dd`).textContent = duration(Math.ceil(Math.max(0, secondsLeft(what))));
      if (secondsLeft(what) <= 0) endOutage(what);
    }
    answered.asked += 1;
    await Promise.all([look("cached"), look("store"), wait(LOOK_MS)]);
  }
  isLooking = false;
}

function endOutage(what) {
  outages[what].until = 0;
  const counts = Object.entries(answered).map(([name, count]) => [name, number(count)]);
  summary.textContent = interpolate(outages[what].end, Object.fromEntries(counts), true);
}

async function look(list) {
  const value = find(`[data-answer-of=${list}]`);
  const how = find(`[data-how-of=${list}]`);
  try {
    const answer = await get(lists[list]);
    answered[list] += 1;
    value.textContent = answer.status;
    how.textContent = interpolate(
      answer.data.from_cache ? gettext("from the cache, %s ms") : gettext("from the database, %s ms"),
      [milliseconds(answer.seconds)]);
  } catch (error) {
    value.textContent = error.status;
    how.textContent = gettext("not now, it says");
  }
}

// --- Buttons -----------------------------------------------------------------------------------------

const ways = { price: changePrice, clear: forget, expire: forget, stampede, redis: stop, database: stop };

let isBusy = false;

async function press(form) {
  if (isBusy) return; // Two stories at once could not be told apart.
  setBusy(true);
  find(".happened").scrollIntoView({ block: "nearest" }); // On a phone it is below the buttons.
  try {
    await ways[form.dataset.button](form);
  } catch (error) {
    listeners.clear(); // Nothing has changed that an event could tell of.
    summary.textContent = error.message;
  }
  setBusy(false);
}

// Not `disabled`, which would take the focus away from under somebody's fingers.
function setBusy(state) {
  isBusy = state;
  for (const button of section.querySelectorAll("[data-button] button")) {
    if (state) button.setAttribute("aria-disabled", "true");
    else button.removeAttribute("aria-disabled");
  }
}

for (const form of forms) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    press(form);
  });
  if (Number(form.dataset.seconds)) beginOutage(form.dataset.button, Number(form.dataset.seconds));
}

if (forms.length) {
  for (const one of section.querySelectorAll(".needs-script")) one.classList.add("ready");
  for (const one of section.querySelectorAll("option")) show(one.value, one.dataset.price === "" ? null : Number(one.dataset.price));
  follow(heard, showState);
}
