// The lines while they are edited: a text field each, and whose line it is. What changes goes to Edits (edits.js) and
// comes back by `refresh`, so undoing is the same as typing.

import { askName } from "/page/asking.js";
import { h, setText } from "/page/dom.js";
import { clean } from "/page/edits.js";
import { Following } from "/page/following.js";
import { calledVoice } from "/page/voices.js";
import { clock } from "/page/words.js";

const NOBODY = "\n0"; // values of options that are no name
const NEW = "\n1";

/** Events: `pick` (detail: a segment) to hear it; `out`: away from the lines, past thousands of fields; `text` ({at, text}), `speaker` ({at, name}): somebody has changed that. */
export class EditLines extends EventTarget {
  #following = new Following();

  /** `names()`: every speaker who can be chosen. */
  constructor({ edits, voices, language, names }) {
    super();
    Object.assign(this, { edits, voices, names });
    this.list = h("ol", { class: "lines editing", "aria-label": "Lines", lang: language,
      onclick: (event) => this.#click(event), oninput: (event) => this.#input(event), onchange: (event) => this.#choose(event),
      onkeydown: (event) => this.#key(event) });
    for (const name of ["pointerdown", "focusin"]) this.list.addEventListener(name, (event) => this.#offer(event.target));
    this.items = edits.segments.map((segment, at) => this.#make(segment, at));
    this.list.append(...this.items);
    this.element = this.list;
    this.#following.show(this.items, edits.segments);
    this.refreshSpeakers();
  }

  close() {
    this.#following.close();
  }

  /** Nobody who writes is carried away by the sound. */
  mark(seconds, follow) {
    this.#following.mark(seconds, follow && !this.list.contains(document.activeElement));
  }

  /** Shows a line as the edits have it. */
  refresh(at) {
    const { field, grow } = this.#parts(at);
    const text = this.edits.text(at);
    if (field.value !== text) field.value = text;
    grow.dataset.text = text;
    this.items[at].classList.toggle("gone", !clean(text));
  }

  refreshSpeakers() {
    const shown = this.names().length > 0;
    this.list.classList.toggle("without-speakers", !shown);
    this.items.forEach((item, at) => {
      const { select } = this.#parts(at);
      const voice = this.edits.voice(at);
      const number = voice === null ? "" : String(this.voices.number(voice));
      if (item.dataset.voice !== number) item.dataset.voice = number;
      const name = calledVoice(voice) ?? "No speaker";
      if (select.options.length === 1) {
        setText(select.options[0], name);
        select.options[0].value = this.edits.speaker(at) ?? NOBODY;
      } else {
        select.replaceChildren(h("option", { value: this.edits.speaker(at) ?? NOBODY }, name));
      }
      if (shown) select.removeAttribute("tabindex");
    });
  }

  /** Puts the cursor at a line's end. */
  focus(at) {
    const { field } = this.#parts(at);
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
    this.items[at].scrollIntoView({ block: "nearest", behavior: "instant" });
  }

  #make(segment, at) {
    const time = clock(segment.start);
    const field = h("textarea", { rows: "1", "aria-label": `Text at ${time}`, spellcheck: "true",
      placeholder: "Empty: this line goes when you save" });
    const text = this.edits.text(at);
    field.value = text;
    return h("li", { class: clean(text) ? "line" : "line gone", dataset: { at } },
      h("button", { class: "stamp", type: "button", tabindex: "-1", "aria-label": `Hear from ${time}` }, time),
      h("div", { class: "edit-cell" },
        h("select", { class: "line-voice", "aria-label": `Speaker at ${time}` }, h("option", {})),
        h("div", { class: "grow", dataset: { text } }, field)));
  }

  #parts(at) {
    const cell = this.items[at].lastChild;
    return { select: cell.firstChild, grow: cell.lastChild, field: cell.lastChild.firstChild };
  }

  #at(target) {
    return Number(target.closest("li")?.dataset.at ?? -1);
  }

  /** A select gets its choices when somebody goes to it: thousands of full ones would be slow to make. */
  #offer(select) {
    if (!select.matches("select") || select.options.length > 1) return;
    const now = select.options[0];
    const others = this.names().filter((name) => name !== now.value);
    select.append(...others.map((name) => h("option", { value: name }, name)), h("option", { value: NEW }, "New speaker…"));
  }

  #input({ target, inputType }) {
    if (!target.matches("textarea")) return;
    const at = this.#at(target);
    if (inputType === "insertFromPaste" || inputType === "insertFromDrop" || /[\r\n]/.test(target.value)) {
      const [before, end] = [target.value, target.selectionEnd];
      target.value = before.replace(/[\r\n]+/g, " "); // a line is one line
      const cursor = before.slice(0, end).replace(/[\r\n]+/g, " ").length;
      target.setSelectionRange(cursor, cursor);
    }
    this.dispatchEvent(new CustomEvent("text", { detail: { at, text: target.value } }));
  }

  async #choose({ target }) {
    if (!target.matches("select")) return;
    const at = this.#at(target);
    let name = target.value;
    if (name === NOBODY) return;
    if (name === NEW) {
      target.selectedIndex = 0;
      name = await askName({ title: "A new speaker", others: this.names(), yes: "Add" });
      target.focus();
      if (name === null) return;
    }
    this.dispatchEvent(new CustomEvent("speaker", { detail: { at, name } }));
    this.#offer(target);
  }

  #click(event) {
    const stamp = event.target.closest(".stamp");
    if (stamp) this.#pick(this.#at(stamp));
  }

  #pick(at) {
    this.dispatchEvent(new CustomEvent("pick", { detail: this.edits.segments[at] }));
  }

  /** Enter goes to the next line, with Shift to the one before, with Ctrl it is heard; Escape leaves the lines. */
  #key(event) {
    if (event.key === "Escape" && !event.isComposing) this.dispatchEvent(new Event("out"));
    if (event.key !== "Enter" || event.isComposing || !event.target.matches("textarea")) return;
    event.preventDefault();
    const at = this.#at(event.target);
    if (event.ctrlKey || event.metaKey) this.#pick(at);
    else if (this.items[at + (event.shiftKey ? -1 : 1)]) this.focus(at + (event.shiftKey ? -1 : 1));
  }
}
