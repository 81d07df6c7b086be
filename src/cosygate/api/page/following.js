// Marks the line that is being heard, and keeps it in view unless the user has just scrolled.

const STILL = matchMedia("(prefers-reduced-motion: reduce)");
const HANDS_OFF_MS = 4_000; // how long after the user scrolled the page does not scroll by itself

export class Following {
  #items = [];
  #segments = [];
  #current = -1;
  #scrolledAt = -Infinity;
  #stop = new AbortController();

  constructor() {
    const onScroll = () => { this.#scrolledAt = performance.now(); };
    for (const name of ["wheel", "touchmove"]) addEventListener(name, onScroll, { passive: true, signal: this.#stop.signal });
  }

  close() {
    this.#stop.abort();
  }

  /** The elements and their segments, in the order of `start`. Both lists stay the caller's. */
  show(items, segments) {
    this.#items = items;
    this.#segments = segments;
    this.#current = -1;
  }

  /** A line has been put in at this place. */
  inserted(at) {
    if (this.#current >= at) this.#current += 1;
  }

  get current() {
    return this.#current;
  }

  /** Marks the line at `seconds`, and brings it into view while `follow`. */
  mark(seconds, follow) {
    const at = this.after(seconds + 0.02) - 1; // a seek may land a little before what was asked for
    if (at === this.#current) return;
    this.#items[this.#current]?.removeAttribute("aria-current");
    this.#current = at;
    const item = this.#items[at];
    if (!item) return;
    item.setAttribute("aria-current", "true");
    if (follow && performance.now() - this.#scrolledAt > HANDS_OFF_MS) {
      item.scrollIntoView({ block: "nearest", behavior: STILL.matches ? "instant" : "smooth" });
    }
  }

  /** How many segments start at or before `seconds`. */
  after(seconds) {
    let [low, high] = [0, this.#segments.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#segments[middle].start <= seconds) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
