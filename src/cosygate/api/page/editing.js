// Editing one transcript: its lines as fields, undo and redo, saving, the draft, and somebody else who saved first.

import { choose } from "/page/asking.js";
import { complain, confirm, h, icon, say, setText } from "/page/dom.js";
import { EditLines } from "/page/edit-lines.js";
import { Edits } from "/page/edits.js";
import { reapply } from "/page/reapply.js";
import { clock } from "/page/words.js";

const KEEP_MS = 400; // after the last change the draft is written
const SHOWN_CLASHES = 50;

/** Events: `change` (who speaks may have changed), `pick` (detail: a segment), `left` (detail: {saved}, the version that
 * is to be shown now, or null when nothing was saved). */
export class Editing extends EventTarget {
  #timer = null;
  #saving = false;
  #closed = false;
  #ours; // whether the draft was taken over or written here: no other is removed
  extra = []; // speakers who were added and have no line yet
  kept = true; // whether what is not saved is in the draft

  /** `base`: the transcript; `draft`: what was left of an earlier editing of the same version. `voices`: the colours. */
  constructor({ api, path, taskId, drafts, voices, base, draft = null }) {
    super();
    Object.assign(this, { api, path, taskId, drafts, voices });
    this.#ours = draft !== null;
    const tool = (label, keys, name, onclick) => h("button",
      { class: "button plain square", type: "button", "aria-label": label, title: `${label} (${keys})`, onclick }, icon(name));
    this.state = h("span", { class: "edit-state" });
    this.undoButton = tool("Undo", "Ctrl+Z", "undo", () => this.undo());
    this.redoButton = tool("Redo", "Ctrl+Y", "redo", () => this.redo());
    this.discardButton = h("button", { class: "button plain", type: "button", onclick: () => this.discard() });
    this.saveButton = h("button", { class: "button strong", type: "button", title: "Save (Ctrl+S)", onclick: () => this.save() }, "Save");
    this.bar = h("div", { class: "edit-bar", role: "group", "aria-label": "Editing" },
      this.state, this.undoButton, this.redoButton, this.discardButton, this.saveButton);
    this.element = h("div", { class: "editor", onbeforeinput: (event) => this.#beforeInput(event) }, this.bar);
    this.#begin(new Edits(base, draft));
  }

  /** Nothing can be changed meanwhile: it would not be saved. */
  get saving() {
    return this.#saving;
  }

  get unsaved() {
    return this.edits.count > 0;
  }

  /** Everybody who can be chosen for a line. */
  get names() {
    return [...new Set([...this.edits.voices.filter((voice) => typeof voice === "string"), ...this.extra])];
  }

  close() {
    this.keep();
    this.#closed = true;
    this.lines.close();
  }

  mark(seconds, follow) {
    this.lines.mark(seconds, follow);
  }

  rename(voice, name) {
    if (this.#closed) return;
    this.voices.rename(voice, name);
    this.edits.rename(voice, name);
    this.extra = this.extra.map((one) => (one === voice ? name : one));
    this.#changed({ speakers: true });
  }

  add(name) {
    if (this.#closed) return;
    this.extra.push(name);
    this.#changed({ speakers: true });
  }

  undo() {
    if (!this.#saving) this.#stepped(this.edits.undo(), "Undone");
  }

  redo() {
    if (!this.#saving) this.#stepped(this.edits.redo(), "Done again");
  }

  async discard() {
    if (this.#saving) return;
    if (this.unsaved && !(await confirm({ title: "Discard your changes?", text: `${this.#words()}. What is not saved is lost.`,
      yes: "Discard", no: "Go on editing", danger: true }))) return;
    if (!this.#closed) this.#leave(null);
  }

  async save() {
    const patch = this.edits.patch();
    if (this.#saving || !patch) return;
    this.#busy(true);
    try {
      const { version } = await this.api.json(`${this.path}/transcript`,
        { method: "PATCH", body: JSON.stringify(patch), headers: { "Content-Type": "application/json" } });
      say(`Saved as version ${version}.`);
      this.#leave(version);
    } catch (problem) {
      this.#busy(false);
      if (problem.code === "version_conflict" && !this.#closed) await this.#conflict().catch(complain);
      else complain(problem); // the draft is still there
    }
  }

  /** Writes the draft as it is now: before a reload, or when something else is shown. */
  keep() {
    clearTimeout(this.#timer);
    if (this.#closed || this.#saving) return; // what is being saved is there already
    if (this.unsaved) this.kept = this.drafts.put(this.taskId, this.edits.draft);
    else if (this.#ours) this.drafts.remove(this.taskId);
    this.#ours = this.unsaved;
  }

  #begin(edits) {
    this.lines?.close();
    this.lines?.element.remove();
    this.edits = edits;
    this.lines = new EditLines({ edits, voices: this.voices, language: edits.base.language, names: () => this.names });
    this.lines.addEventListener("pick", ({ detail }) => this.dispatchEvent(new CustomEvent("pick", { detail })));
    this.lines.addEventListener("out", () => (this.saveButton.disabled ? this.discardButton : this.saveButton).focus());
    this.lines.addEventListener("text", ({ detail: { at, text } }) => {
      edits.setText(at, text);
      this.lines.refresh(at);
      this.#changed();
    });
    this.lines.addEventListener("speaker", ({ detail: { at, name } }) => {
      edits.setSpeaker(at, name);
      this.#changed({ speakers: true });
    });
    this.element.append(this.lines.element);
    this.#changed({ speakers: true });
  }

  #changed({ speakers = false } = {}) {
    const count = this.edits.count;
    setText(this.state, count ? this.#words() : "Editing");
    setText(this.discardButton, count ? "Discard" : "Close");
    this.saveButton.disabled = !count || this.#saving;
    this.undoButton.disabled = !this.edits.canUndo;
    this.redoButton.disabled = !this.edits.canRedo;
    clearTimeout(this.#timer);
    if (!this.#closed) this.#timer = setTimeout(() => this.keep(), KEEP_MS);
    if (!speakers) return;
    this.lines.refreshSpeakers();
    this.dispatchEvent(new Event("change"));
  }

  #words() {
    const { count } = this.edits;
    return count === 1 ? "1 change" : `${count} changes`;
  }

  #stepped(step, words) {
    if (!step) return;
    const [button] = [this.undoButton, this.redoButton].filter((one) => one === document.activeElement);
    for (const [at] of step.texts ?? []) this.lines.refresh(at);
    this.#changed({ speakers: Boolean(step.own || step.names) });
    if (step.at !== undefined) {
      if (button && !button.disabled) this.lines.items[step.at].scrollIntoView({ block: "nearest", behavior: "instant" });
      else this.lines.focus(step.at);
    }
    say(words);
  }

  /** The browser's own undo knows one field only: its menu does ours. */
  #beforeInput(event) {
    if (event.inputType === "historyUndo" || event.inputType === "historyRedo") {
      event.preventDefault();
      if (event.inputType === "historyUndo") this.undo();
      else this.redo();
    }
  }

  #busy(on) {
    if (on) {
      this.keep();
      this.focused = document.activeElement;
    }
    this.#saving = on;
    this.lines.element.inert = on;
    setText(this.saveButton, on ? "Saving…" : "Save");
    this.#changed();
    this.dispatchEvent(new Event("change"));
    if (!on && this.element.contains(this.focused)) this.focused.focus();
  }

  #leave(saved) {
    clearTimeout(this.#timer);
    if (this.#ours) this.drafts.remove(this.taskId);
    if (this.#closed) return;
    this.#closed = true;
    this.lines.close();
    this.dispatchEvent(new CustomEvent("left", { detail: { saved } }));
  }

  async #conflict() {
    const theirs = await this.api.json(`${this.path}/transcript?format=json`);
    if (this.#closed) return;
    const { clashes, make } = reapply(this.edits, theirs);
    // Nothing of one's own is missing: it was saved, and the answer was lost on its way.
    if (!clashes.length && !make(true).count) return void this.#leave(theirs.version);
    const way = await choose({
      title: "Somebody else has saved first",
      text: `Version ${theirs.version} is newer than the one that you have edited. Your changes are still here.`,
      choices: [["stay", "Go on editing"], ["theirs", "Drop mine, show theirs", "button danger"],
        ["mine", "Put mine on top", "button strong"]],
    });
    if (this.#closed) return;
    if (way === "theirs") this.#leave(theirs.version);
    if (way !== "mine") return;
    const side = clashes.length ? await this.#decide(clashes) : "mine";
    if (this.#closed || (side !== "mine" && side !== "theirs")) return;
    this.#begin(make(side === "mine"));
    this.keep();
    if (this.unsaved) await this.save();
    else this.#leave(theirs.version);
  }

  /** What both have changed: "mine" or "theirs" for all of it, or null. */
  #decide(clashes) {
    const rows = clashes.slice(0, SHOWN_CLASHES).map(({ start, mine, theirs, taken }) => h("li", {},
      h("strong", {}, start === null ? "A speaker's name" : `At ${clock(start)}`),
      h("span", {}, "Mine: ", h("q", {}, mine || "(removed)")),
      h("span", {}, theirs === null ? `Theirs: the ${start === null ? "speaker" : "line"} is gone, so mine cannot be put on it`
        : ["Theirs: ", h("q", {}, theirs)]),
      taken ? h("span", {}, `They call somebody else ${mine}: with mine the two become one`) : null));
    const more = clashes.length - rows.length;
    return choose({
      title: clashes.length === 1 ? "One thing was changed by both" : `${clashes.length} things were changed by both`,
      text: "Everything else of yours goes on top of theirs.",
      details: h("ul", { class: "clashes", tabindex: "0", "aria-label": "What both have changed" }, rows,
        more > 0 ? h("li", {}, `and ${more} more`) : null),
      choices: [["stay", "Go on editing"], ["theirs", "Keep theirs"], ["mine", "Keep mine", "button strong"]],
    });
  }
}
