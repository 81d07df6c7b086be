// The speakers of a transcript in a row: in their colours, each with its share of the speech. Choosing one renames it.

import { askName } from "/page/asking.js";
import { h, icon } from "/page/dom.js";
import { calledVoice, shares } from "/page/voices.js";

export class Speakers {
  /** `onRename(voice, name)`: somebody wants that. `onAdd(name)`: a speaker who is in no line yet. */
  constructor({ onRename, onAdd }) {
    Object.assign(this, { onRename, onAdd });
    this.element = h("ul", { class: "speakers", "aria-label": "Speakers" });
  }

  /** `extra`: names without lines. `fixed`: nothing can be changed. `adding`: a new one may be named. */
  show(segments, voices, { extra = [], fixed = false, adding = false } = {}) {
    const known = shares(segments);
    const silent = extra.filter((name) => !known.some(({ voice }) => voice === name));
    const all = [...known, ...silent.map((voice) => ({ voice, share: 0 }))];
    this.names = all.map(({ voice }) => calledVoice(voice));
    const focused = document.activeElement?.closest(".speakers li")?.dataset.name;
    const items = all.map(({ voice, share }) => this.#make(voice, share, voices, fixed));
    if (adding && !fixed) {
      items.push(h("li", { dataset: { name: "" } },
        h("button", { class: "chip add", type: "button", onclick: () => this.#add() }, icon("plus"), "Add a speaker")));
    }
    this.element.replaceChildren(...items);
    this.element.hidden = !items.length;
    if (focused !== undefined) this.focus(focused);
  }

  focus(name) {
    const chip = [...this.element.children].find((item) => item.dataset.name === name) ?? this.element.firstChild;
    chip?.querySelector("button")?.focus();
  }

  #make(voice, share, voices, fixed) {
    const name = calledVoice(voice);
    const percent = Math.round(100 * share);
    const words = [h("span", { class: "chip-name" }, name),
      h("span", { class: "share", title: "Share of the time in which somebody speaks" }, percent || !share ? `${percent} %` : "< 1 %")];
    return h("li", { dataset: { voice: voices.number(voice), name } }, fixed ? h("span", { class: "chip" }, words)
      : h("button", { class: "chip", type: "button", title: `Rename ${name}`, onclick: () => this.#rename(voice) },
        words, h("span", { class: "unseen" }, " Rename")));
  }

  async #rename(voice) {
    const name = calledVoice(voice);
    const others = this.names.filter((other) => other !== name);
    const given = await askName({ title: `Who is ${name}?`, name, others, yes: "Rename" });
    if (given === null || given === name) return;
    this.onRename(voice, given);
    this.focus(given);
  }

  async #add() {
    const given = await askName({ title: "A new speaker", others: this.names, yes: "Add" });
    if (given === null) return;
    this.onAdd(given);
    this.focus(given);
  }
}
