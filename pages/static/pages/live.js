// The store's events, for as long as somebody looks at the page. A tab in the background does not listen:
// over HTTP/1.1 a browser has six connections to a host, which as many open tabs would keep from all else.
// EventSource itself gives up at a 503, as while the store restarts or has no room for another listener,
// so it is made anew.

import { haveSeen } from "./api.js";

const RETRY_MS = 2000;
const NAMES = ["created", "updated", "deleted", "bulk", "reset"];

// Calls onEvent(name, data) for each event, "reset" after events that were missed, and onState(isConnected)
// when that changes.
export function follow(onEvent, onState) {
  let source, timer, lastId = "", wasOpen = false, isConnected = null;

  function tell(state) {
    if (state !== isConnected) onState(isConnected = state);
  }

  function hear(name, data) {
    haveSeen(data?.seen ?? "unknown"); // What is no token is trusted to nobody's copy.
    onEvent(name, data);
  }

  function open() {
    source = new EventSource("/store/events/" + (lastId ? `?last_event_id=${encodeURIComponent(lastId)}` : ""));
    source.onopen = () => {
      tell(true);
      if (wasOpen && !lastId) hear("reset", null); // Nobody knows from where on to go on.
      wasOpen = true;
    };
    source.onerror = () => {
      tell(false);
      if (source.readyState === EventSource.CLOSED) timer = setTimeout(open, RETRY_MS);
    };
    for (const name of NAMES) {
      source.addEventListener(name, (event) => {
        lastId = event.lastEventId || lastId;
        hear(name, event.data ? JSON.parse(event.data) : null);
      });
    }
  }

  function listenWhileVisible() {
    clearTimeout(timer);
    source?.close();
    if (!document.hidden) open();
  }

  document.addEventListener("visibilitychange", listenWhileVisible);
  listenWhileVisible();
}
