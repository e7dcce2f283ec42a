// What was measured of one list: the last so many answers, and figures of them.

const MOST = 500;

export class Measurements {
  // Seconds by request; null where there was an error, so that both lists stay abreast.
  server = [];
  whole = [];
  fromCache = [];
  answers = 0;
  fills = 0;
  errors = 0;

  add({ status, data, seconds }) {
    this.answers += 1;
    if (status === 201) this.fills += 1;
    this.#keep(data.response_time, seconds, data.from_cache);
  }

  addError() {
    this.errors += 1;
    this.#keep(null, null, null);
  }

  // `measure` is "server" or "whole", `share` 0.5 for the median; null if nothing was measured.
  quantile(measure, share) {
    const sorted = known(this[measure]).sort((a, b) => a - b);
    return sorted.length ? sorted[Math.ceil(share * sorted.length) - 1] : null;
  }

  get shareFromCache() {
    const flags = known(this.fromCache);
    return flags.length ? flags.filter(Boolean).length / flags.length : null;
  }

  #keep(...values) {
    [this.server, this.whole, this.fromCache].forEach((kept, index) => {
      kept.push(values[index]);
      if (kept.length > MOST) kept.shift();
    });
  }
}

export const known = (values) => values.filter((value) => value !== null);
