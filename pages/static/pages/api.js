// Requests to the store: JSON in and out, errors as an Error whose message can be shown.

// The cookie's, as that of the page is void once somebody has signed in in another tab.
const token = () => /(?:^|; )csrftoken=(\w+)/.exec(document.cookie)?.[1]
  ?? document.querySelector("[name=csrfmiddlewaretoken]").value;

// What the last event said of itself: sent back, it lets no answer be from before that event. Nothing is
// further behind than this.
const SEEN_MS = 60_000;
let seen = "", seenUntil = 0;

export function haveSeen(token) {
  seen = token;
  seenUntil = performance.now() + SEEN_MS;
}

export class Refused extends Error {
  constructor(message, status, retryAfterSeconds) {
    super(message);
    this.status = status;
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

// Returns { data, status, headers, seconds }: `seconds` is the whole round trip, the body read.
export async function send(method, url, body) {
  const isForm = body instanceof FormData;
  const headers = { Accept: "application/json" };
  if (method !== "GET") headers["X-CSRFToken"] = token();
  if (performance.now() < seenUntil) headers["X-Store-Seen"] = seen;
  if (body && !isForm) headers["Content-Type"] = "application/json";
  const started = performance.now();
  let response, text;
  try {
    response = await fetch(url, {
      method, headers, body: body && !isForm ? JSON.stringify(body) : body, cache: "no-store",
    });
    text = await response.text();
  } catch {
    throw new Refused(gettext("The store cannot be reached."), 0);
  }
  const seconds = (performance.now() - started) / 1000;
  const data = parsed(text);
  if (!response.ok) {
    const wait = Number(response.headers.get("Retry-After")) || undefined;
    throw new Refused(reason(data) || gettext("The store cannot answer at the moment."), response.status, wait);
  }
  return { data, status: response.status, headers: response.headers, seconds };
}

export const get = (url) => send("GET", url);
export const post = (url, body) => send("POST", url, body);

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

// DRF names what was wrong: {"detail": "..."} or {"field": ["..."]}.
function reason(data) {
  if (!data || typeof data !== "object") return "";
  if (data.detail) return String(data.detail);
  return Object.entries(data).map(([name, texts]) => `${name}: ${[texts].flat().join(" ")}`).join(" ");
}
