// Jobs: a file is sent or an export asked for, then the job's status is asked for until it has ended.

import { get, post } from "./api.js";
import { bytes, duration, number } from "./format.js";

const POLL_MS = 500;
const RETRY_MS = 2000;
const NOTHING = "–";
const statusUrl = document.querySelector("[data-status-url]").dataset.statusUrl;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

class Job {
  constructor(card) {
    this.card = card;
    this.kind = card.dataset.kind;
    this.form = card.querySelector("form");
    this.button = card.querySelector("button");
    this.bar = card.querySelector(".bar");
    card.querySelector("[data-unscripted]").hidden = true;
    this.button.hidden = false;
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.start();
    });
    if (card.dataset.unfinished) this.watch(card.dataset.unfinished);
  }

  part(name) {
    return this.card.querySelector(`[data-part="${name}"]`);
  }

  say(text, kind = "") {
    const state = this.part("state");
    if (state.textContent !== text) state.textContent = text;
    state.className = kind;
  }

  async start() {
    const file = this.form.elements.file?.files[0];
    const most = Number(this.form.dataset.maxBytes);
    if (file && file.size > most) {
      this.say(interpolate(gettext("The file has %s; at most %s are taken."), [bytes(file.size), bytes(most)]), "bad");
      return;
    }
    this.button.disabled = true;
    this.show({ rows_done: null, rows_total: null, rows_per_second: null, seconds_left: null }, 0);
    this.say(file ? gettext("The file is being sent.") : gettext("The export is being asked for."));
    try {
      const { data } = await post(this.form.dataset.url, new FormData(this.form));
      // Another one that has been chosen meanwhile is for the next import.
      if (this.form.elements.file?.files[0] === file) this.form.reset();
      this.watch(`${this.kind}-${data.id}`);
    } catch (error) {
      this.say(error.message, "bad");
      this.button.disabled = false;
    }
  }

  async watch(id) {
    this.button.disabled = true;
    for (;;) {
      try {
        const { data } = await get(`${statusUrl}${id}/`);
        this.show(data.progress, share(data));
        if (data.state === "done" || data.state === "failed") {
          await refreshTables();
          this.end(data);
          return;
        }
        this.say(data.state === "running" ? interpolate(gettext("%s is being done."), [id])
          : interpolate(gettext("%s waits for a worker."), [id]));
        await pause(POLL_MS);
      } catch (error) {
        this.say(error.message, "bad");
        if (error.status === 404 || error.status === 403) break;
        await pause(RETRY_MS);
      }
    }
    this.button.disabled = false;
  }

  show(progress, part) {
    const known = (value, format) => (value === null ? NOTHING : format(value));
    this.part("rows").textContent = known(progress.rows_done, number);
    this.part("rate").textContent = known(progress.rows_per_second, (rate) => number(Math.round(rate)));
    this.part("left").textContent = known(progress.seconds_left, duration);
    this.bar.firstElementChild.style.inlineSize = `${100 * part}%`;
    this.bar.setAttribute("aria-valuenow", Math.round(100 * part));
    this.part("file").hidden = true;
  }

  end({ id, state, result, error }) {
    this.button.disabled = false;
    if (state === "failed") {
      this.say(error, "bad");
    } else if (this.kind === "export") {
      const rows = interpolate(ngettext("Done: %s product exported.", "Done: %s products exported.", result.exported), [number(result.exported)]);
      this.say(rows, "good");
    } else {
      const rows = interpolate(ngettext("Done: %s row imported,", "Done: %s rows imported,", result.imported), [number(result.imported)]);
      const rejected = interpolate(ngettext("%s rejected.", "%s rejected.", result.rejected), [number(result.rejected)]);
      this.say(`${rows} ${rejected}`, "good");
    }
    const link = this.part("file");
    link.href = this.card.dataset.fileUrl.replace("/0/", `/${id.split("-")[1]}/`);
    link.hidden = !(result?.exported >= 0 || result?.rejected > 0);
  }
}

// How much is done: of an import by bytes, of an export by rows.
function share({ state, progress }) {
  if (state === "done") return 1;
  const { bytes_done: done, bytes_total: total, rows_done: rows, rows_total: allRows } = progress;
  if (total) return Math.min(1, done / total);
  return allRows ? Math.min(1, rows / allRows) : 0;
}

// The tables are the server's to make: they are taken from a new copy of this page.
async function refreshTables() {
  try {
    const answer = await fetch(location.pathname, { cache: "no-store" });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("latest");
    if (fresh) document.getElementById("latest").replaceWith(document.adoptNode(fresh));
  } catch {
    // They show the job when the page is loaded again.
  }
}

for (const card of document.querySelectorAll("[data-kind]")) new Job(card);
