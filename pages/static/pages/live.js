// The store's events, for as long as the page is open. EventSource itself gives up at a 503, as while
// the store restarts or has no room for another listener, so it is made anew.

const RETRY_MS = 2000;
const NAMES = ["created", "updated", "deleted", "bulk", "reset"];

// Calls onEvent(name, data) for each event and onState(isConnected) when that changes; returns a function
// that ends it.
export function follow(onEvent, onState) {
  let source, timer, lastId = "", ended = false;

  function open() {
    source = new EventSource("/store/events/" + (lastId ? `?last_event_id=${encodeURIComponent(lastId)}` : ""));
    source.onopen = () => onState(true);
    source.onerror = () => {
      onState(false);
      if (source.readyState === EventSource.CLOSED && !ended) timer = setTimeout(open, RETRY_MS);
    };
    for (const name of NAMES) {
      source.addEventListener(name, (event) => {
        lastId = event.lastEventId || lastId;
        onEvent(name, event.data ? JSON.parse(event.data) : null);
      });
    }
  }

  open();
  return () => {
    ended = true;
    clearTimeout(timer);
    source.close();
  };
}
