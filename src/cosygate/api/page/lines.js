// The transcript's lines: one per segment, with its time. Clicking one asks to hear it; the one being heard is marked.

import { h } from "/page/dom.js";
import { voiceOf } from "/page/edits.js";
import { Following } from "/page/following.js";
import { calledVoice, partsOf, Voices } from "/page/voices.js";
import { clock } from "/page/words.js";

/** Whether two segments look the same as lines. */
function alike(one, other) {
  const looks = ({ text, start, speaker, words = [] }) => JSON.stringify([text, start, speaker, words.map((word) => word.speaker)]);
  return looks(one) === looks(other);
}

/** Event `pick`, with the segment as detail: somebody wants to hear it. */
export class Lines extends EventTarget {
  segments = [];
  #items = []; // the <li> of each segment
  #following = new Following();
  voices = new Voices();

  constructor() {
    super();
    this.list = h("ol", { class: "lines", onclick: (event) => this.#click(event), onkeydown: (event) => this.#key(event) });
    this.element = h("div", { role: "log", "aria-label": "What was said", "aria-live": "off" }, this.list);
    this.#following.show(this.#items, this.segments);
  }

  close() {
    this.#following.close();
  }

  /** Whether new lines are read out by screen readers: while they are being recognised. */
  set live(on) {
    this.element.setAttribute("aria-live", on ? "polite" : "off");
  }

  /** Makes the lines those of `segments`, leaving them alone when they are so already. */
  fill(segments) {
    if (segments.length === this.segments.length && segments.every((segment, at) => alike(segment, this.segments[at]))) return;
    this.clear();
    const items = segments.map((segment) => this.#make(segment));
    this.segments = [...segments];
    this.#items = items;
    this.#following.show(this.#items, this.segments);
    this.list.replaceChildren(...items);
    this.#settle();
  }

  clear() {
    this.segments = [];
    this.#items = [];
    this.#following.show(this.#items, this.segments);
    this.voices.clear();
    this.list.replaceChildren();
  }

  /** Adds a segment at its place in time: channels that are recognised one after the other interleave. */
  add(segment) {
    const at = this.#following.after(segment.start);
    const item = this.#make(segment);
    item.classList.add("fresh");
    this.list.insertBefore(item, this.#items[at] ?? null);
    this.segments.splice(at, 0, segment);
    this.#items.splice(at, 0, item);
    this.#following.inserted(at);
    this.#settle(at, at + 2);
  }

  /** Marks the line at `seconds`, and brings it into view while `follow`. */
  mark(seconds, follow) {
    this.#following.mark(seconds, follow);
  }

  /** Whose line is being heard: its place, or -1. */
  get current() {
    return this.#following.current;
  }

  #make(segment) {
    const voice = this.voices.of(segment);
    const name = calledVoice(voiceOf(segment));
    const time = clock(segment.start);
    return h("li", { class: "line", dataset: voice < 0 ? {} : { voice } },
      h("button", { class: "stamp", type: "button", tabindex: "-1", "aria-label": `Hear from ${time}` }, time),
      h("p", {}, name ? h("span", { class: "voice" }, name) : null, this.#said(segment)));
  }

  /** The text; where others speak in the same line, their parts in their colours, each with a name. */
  #said(segment) {
    const parts = partsOf(segment);
    return !parts ? segment.text : parts.map((part, at) => h("span", { class: "part", dataset: { voice: this.voices.of(part) } },
      at || part.speaker !== segment.speaker ? h("span", { class: "part-voice" }, `${part.speaker ?? "?"}: `) : null, part.text));
  }

  /** One line is the list's stop for Tab (arrows walk the others). A voice is named where it changes. */
  #settle(from = 0, to = this.#items.length) {
    if (!this.list.querySelector('.stamp[tabindex="0"]')) this.#items[0]?.firstChild.setAttribute("tabindex", "0");
    for (let at = from; at < Math.min(to, this.#items.length); at++) {
      this.#items[at].classList.toggle("same-voice", at > 0 && voiceOf(this.segments[at]) === voiceOf(this.segments[at - 1]));
    }
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
