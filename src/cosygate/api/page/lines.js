// The transcript's lines: one per segment, with its time. Clicking one asks to hear it; the one being heard is marked.

import { h } from "/page/dom.js";
import { clock } from "/page/words.js";

export const VOICES = 6; // colours in the style sheet

const STILL = matchMedia("(prefers-reduced-motion: reduce)");
const HANDS_OFF_MS = 4_000; // how long after the user scrolled the page does not scroll by itself

/** Event `pick`, with the segment as detail: somebody wants to hear it. */
export class Lines extends EventTarget {
  segments = [];
  #items = []; // the <li> of each segment
  #voices = new Map(); // speaker or channel → its number, in the order of appearance
  #current = -1;
  #scrolledAt = 0;

  constructor() {
    super();
    this.list = h("ol", { class: "lines", onclick: (event) => this.#click(event), onkeydown: (event) => this.#key(event) });
    this.element = h("div", { role: "log", "aria-label": "What was said", "aria-live": "off" }, this.list);
    this.#onScroll = () => { this.#scrolledAt = performance.now(); };
    addEventListener("wheel", this.#onScroll, { passive: true });
    addEventListener("touchmove", this.#onScroll, { passive: true });
  }

  #onScroll;

  close() {
    removeEventListener("wheel", this.#onScroll);
    removeEventListener("touchmove", this.#onScroll);
  }

  /** Whether new lines are read out by screen readers: while they are being recognised. */
  set live(on) {
    this.element.setAttribute("aria-live", on ? "polite" : "off");
  }

  /** Makes the lines those of `segments`, leaving them alone when they are so already. */
  fill(segments) {
    const same = segments.length === this.segments.length &&
      segments.every((segment, at) => segment.text === this.segments[at].text && segment.start === this.segments[at].start);
    if (same) return;
    this.clear();
    const items = segments.map((segment) => this.#make(segment));
    this.segments = [...segments];
    this.#items = items;
    this.list.replaceChildren(...items);
    this.#settle();
  }

  clear() {
    this.segments = [];
    this.#items = [];
    this.#voices.clear();
    this.#current = -1;
    this.list.replaceChildren();
  }

  /** Adds a segment at its place in time: channels that are recognised one after the other interleave. */
  add(segment) {
    const at = this.#after(segment.start);
    const item = this.#make(segment);
    item.classList.add("fresh");
    this.list.insertBefore(item, this.#items[at] ?? null);
    this.segments.splice(at, 0, segment);
    this.#items.splice(at, 0, item);
    if (this.#current >= at) this.#current += 1;
    this.#settle();
  }

  /** Marks the line at `seconds`, and brings it into view while `follow`. */
  mark(seconds, follow) {
    const at = this.#after(seconds + 0.02) - 1; // a seek may land a little before what was asked for
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

  /** The number of a segment's voice (its speaker, else its channel), or -1. */
  voiceOf({ speaker, channel }) {
    const key = speaker ?? channel;
    if (key === undefined) return -1;
    if (!this.#voices.has(key)) this.#voices.set(key, this.#voices.size % VOICES);
    return this.#voices.get(key);
  }

  /** How many segments start at or before `seconds`. */
  #after(seconds) {
    let [low, high] = [0, this.segments.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.segments[middle].start <= seconds) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #make(segment) {
    const voice = this.voiceOf(segment);
    const name = segment.speaker ?? (segment.channel === undefined ? null : `Channel ${segment.channel + 1}`);
    const time = clock(segment.start);
    return h("li", { class: "line", dataset: voice < 0 ? {} : { voice } },
      h("button", { class: "stamp", type: "button", tabindex: "-1", "aria-label": `Hear from ${time}` }, time),
      h("p", {}, name ? h("span", { class: "voice" }, name) : null, segment.text));
  }

  /** One line is the list's stop for Tab (arrows walk the others). A voice is named where it changes. */
  #settle() {
    if (!this.list.querySelector('.stamp[tabindex="0"]')) this.#items[0]?.firstChild.setAttribute("tabindex", "0");
    this.#items.forEach((item, at) => {
      item.classList.toggle("same-voice", at > 0 && item.dataset.voice === this.#items[at - 1].dataset.voice);
    });
  }

  #click(event) {
    const item = event.target.closest("li");
    if (!item || (!event.target.closest("button") && !getSelection().isCollapsed)) return; // somebody is selecting text
    this.#focusable(item);
    this.dispatchEvent(new CustomEvent("pick", { detail: this.segments[this.#items.indexOf(item)] }));
  }

  #key(event) {
    const at = this.#items.indexOf(event.target.closest("li"));
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: this.#items.length - 1 }[event.key];
    if (at < 0 || !this.#items[to]) return;
    event.preventDefault();
    this.#focusable(this.#items[to]);
    this.#items[to].firstChild.focus();
  }

  #focusable(item) {
    this.list.querySelector('.stamp[tabindex="0"]')?.setAttribute("tabindex", "-1");
    item.firstChild.setAttribute("tabindex", "0");
  }
}
