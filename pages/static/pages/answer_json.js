// An answer as readable JSON: its flags marked, its list cut short.

import { number } from "./format.js";

const FLAGS = /^ {2}"(response_time|from_database|from_cache|stale)":/;
const SHOWN = 2;

export function show(element, data) {
  const left = data.results.length - SHOWN;
  const lines = JSON.stringify({ ...data, results: data.results.slice(0, SHOWN) }, null, 2).split("\n");
  const nodes = lines.flatMap((line) => [FLAGS.test(line) ? marked(line) : line, "\n"]);
  // In front of the two lines that close the list and the answer.
  if (left > 0) nodes.splice(-4, 0, "    ", remark(left), "\n");
  element.replaceChildren(...nodes);
}

function marked(line) {
  const mark = document.createElement("mark");
  mark.textContent = line;
  return mark;
}

function remark(left) {
  const element = document.createElement("bdi");
  element.textContent = interpolate(ngettext("… %s more", "… %s more", left), [number(left)]);
  return element;
}
