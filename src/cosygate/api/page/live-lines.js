// The words of a live session: finals as fixed lines with their times, what is being said now pale below them. Shared
// by the speaker's page and the audience's.

import { h, setText } from "/page/dom.js";
import { clock } from "/page/words.js";

const HANDS_OFF_MS = 4_000; // how long after the reader scrolled the page does not scroll by itself

/** Whether the reader leaves scrolling to the page. */
function handsOff() {
  let scrolledAt = -Infinity;
  for (const kind of ["wheel", "touchmove"]) {
    addEventListener(kind, () => { scrolledAt = performance.now(); }, { passive: true });
  }
  return () => performance.now() - scrolledAt > HANDS_OFF_MS;
}

/** Lines; finals are read out by screen readers, what may still change is not. */
export class LiveLines {
  #finals = 0; // how many lines of the session are drawn
  #gaps = 0;
  #follows;

  /** `follows()`: whether the page may scroll to what is new. */
  constructor({ follows = handsOff() } = {}) {
    this.#follows = follows;
    this.list = h("ol", { class: "lines" });
    this.log = h("div", { role: "log", "aria-label": "What was said", "aria-live": "polite" }, this.list);
    this.partial = h("p", { class: "partial", "aria-live": "off" });
    this.element = h("div", { class: "live-lines" }, this.log, this.partial);
  }

  /** `finals` and `gaps` (in samples, with `rate`) only grow; `partial` is {text} or null. */
  show({ finals, gaps, partial, rate = 16_000 }) {
    const grown = finals.length > this.#finals || gaps.length > this.#gaps;
    for (; this.#gaps < gaps.length; this.#gaps++) {
      const { from, to, code } = gaps[this.#gaps];
      const words = `${Math.max(1, Math.round((to - from) / rate))} s of sound ${code ? "could not be recognised" : "were lost"} here`;
      this.list.append(h("li", { class: "live-line lost" }, h("span", { class: "stamp" }, clock(from / rate)), h("p", {}, words)));
    }
    for (; this.#finals < finals.length; this.#finals++) {
      const { start, text, speaker } = finals[this.#finals];
      this.list.append(h("li", { class: "live-line fresh" }, h("span", { class: "stamp" }, clock(start)),
        h("p", {}, speaker ? h("span", { class: "voice" }, speaker) : null, text)));
    }
    const pale = partial?.text ?? "";
    const changed = this.partial.textContent !== pale;
    setText(this.partial, pale);
    if ((grown || changed) && this.element.isConnected && this.#follows()) this.follow();
  }

  clear() {
    this.#finals = this.#gaps = 0;
    this.list.replaceChildren();
    setText(this.partial, "");
  }

  /** Brings what is said now into view: it is at the end of the page. */
  follow() {
    scrollTo(0, document.documentElement.scrollHeight);
  }
}
