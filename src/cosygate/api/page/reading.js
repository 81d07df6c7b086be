// One finished transcript: which version, who speaks, the lines to read or to edit.

import { dismissQuestions } from "/page/asking.js";
import { complain, confirm, h, icon, problemWords, say } from "/page/dom.js";
import { Editing } from "/page/editing.js";
import { Edits } from "/page/edits.js";
import { Speakers } from "/page/speakers.js";
import { Versions } from "/page/versions.js";

/** Event `shown`: there is a transcript, or another version of it. */
export class Reading extends EventTarget {
  #round = 0; // what an earlier choice asked for comes too late
  #draft = null; // what was not saved and is not in the editor yet: nothing can be changed until it is
  transcript = null;
  editing = null;

  /** `head` stands above the lines, `body` holds them; the button is for the task's actions. */
  constructor({ api, path, taskId, drafts, lines, player, signal }) {
    super();
    Object.assign(this, { api, path, taskId, drafts, lines, player, signal });
    this.versions = new Versions();
    this.versions.addEventListener("show", ({ detail }) => this.load(detail).catch((problem) => this.#fail(problem)));
    this.versions.addEventListener("restore", ({ detail }) => this.#restore(detail).catch((problem) => this.#fail(problem)));
    this.speakers = new Speakers({
      onRename: (voice, name) => this.edit()?.rename(voice, name),
      onAdd: (name) => this.editing?.add(name),
    });
    this.button = h("button", { class: "button plain", type: "button", hidden: true, onclick: () => { if (this.edit()) this.#enter(); } },
      icon("pen"), h("span", {}, "Edit"));
    this.left = h("div", { role: "status" }); // what becomes of the draft
    this.head = h("div", { class: "reading-head", hidden: true }, this.left, this.versions.element, this.speakers.element);
    this.body = h("div", { class: "reading-body" }, lines.element);
  }

  /** Shows the newest version; goes on with what was not saved, if there is a draft. */
  async open() {
    this.#draft = this.drafts.get(this.taskId);
    await this.load();
    if (this.#draft) await this.#takeUp();
  }

  /** Shows a version, the newest unless it is named. */
  async load(version = null) {
    const round = this.#round += 1;
    const [transcript, { versions }] = await Promise.all([this.#fetch(version),
      this.api.json(`${this.path}/transcript/versions`, { signal: this.signal })]);
    if (round !== this.#round || this.editing) return;
    this.transcript = transcript;
    this.newest = versions.at(-1).version === transcript.version;
    this.lines.fill(transcript.segments);
    this.player.show(transcript.segments, transcript.duration);
    this.versions.show(versions, transcript.version);
    this.#showSpeakers();
    this.dispatchEvent(new Event("shown"));
  }

  /** Whether something would be lost by leaving: changes for which there is no room in a draft. */
  get wouldLose() {
    this.editing?.keep();
    return Boolean(this.editing?.unsaved && !this.editing.kept);
  }

  get unsaved() {
    return Boolean(this.editing?.unsaved);
  }

  /** Nothing that was asked here can be answered any more. */
  close() {
    dismissQuestions();
    this.editing?.close();
    this.editing = null;
  }

  mark(seconds, follow) {
    (this.editing ?? this.lines).mark(seconds, follow);
  }

  /** Keys of editing. Says whether it was one. */
  onKey(event) {
    if (!this.editing || event.altKey || !(event.ctrlKey || event.metaKey) || event.target.closest("dialog")) return false;
    const key = event.key.toLowerCase();
    if (key === "s" && !event.shiftKey) this.editing.save();
    else if (key === "y" || (key === "z" && event.shiftKey)) this.editing.redo();
    else if (key === "z") this.editing.undo();
    else return false;
    event.preventDefault();
    return true;
  }

  /** The editor, which is opened if need be; null when nothing may be changed (any more, or yet). */
  edit({ base = this.transcript, draft = null } = {}) {
    if (this.editing || this.signal.aborted || this.#draft) return this.editing;
    const { api, path, taskId, drafts } = this;
    this.editing = new Editing({ api, path, taskId, drafts, voices: this.lines.voices, base, draft });
    this.editing.addEventListener("change", () => this.#showSpeakers());
    this.editing.addEventListener("pick", ({ detail }) => this.#hear(detail));
    this.editing.addEventListener("left", ({ detail }) => this.#left(detail).catch((problem) => this.#fail(problem)));
    this.body.replaceChildren(this.editing.element);
    this.#showSpeakers();
    this.dispatchEvent(new Event("shown"));
    this.mark(this.player.time, false);
    return this.editing;
  }

  /** Goes on with the draft. Without the version that it changes it stays where it is, and a button tries again. */
  async #takeUp() {
    const draft = this.#draft;
    this.left.replaceChildren(h("p", { class: "small quiet" }, "Fetching what your unsaved changes belong to…"));
    let base;
    try {
      base = await this.#baseOf(draft);
    } catch (problem) {
      if (!this.signal.aborted) this.#leftBehind(problem);
      return;
    }
    if (this.signal.aborted || this.#draft !== draft) return;
    const some = base && new Edits(base, draft).count;
    if (!some) this.drafts.remove(this.taskId);
    this.#settle();
    if (!some) return;
    this.edit({ base, draft });
    say("Your changes are here. They are not saved yet.");
  }

  #leftBehind(problem) {
    const drop = async () => {
      const sure = await confirm({ title: "Drop your changes?", text: "They are not saved.", yes: "Drop", danger: true });
      if (!sure || this.signal.aborted || !this.#draft) return;
      this.drafts.remove(this.taskId);
      this.#settle();
    };
    const retry = h("button", { class: "button strong", type: "button", onclick: () => this.#takeUp() }, "Try again");
    this.left.replaceChildren(h("div", { class: "verdict bad" },
      h("p", {}, h("strong", {}, "Your unsaved changes are kept, but cannot be shown. "), problemWords(problem)),
      h("div", { class: "verdict-actions" }, retry, h("button", { class: "button", type: "button", onclick: drop }, "Drop them"))));
  }

  /** There is no draft that could be lost by changing something. */
  #settle() {
    this.#draft = null;
    this.left.replaceChildren();
    this.#showSpeakers();
    this.dispatchEvent(new Event("shown"));
  }

  /** To the line that is being heard, else the first. A finger's keyboard would hide half of the page: not by itself. */
  #enter() {
    if (matchMedia("(pointer: fine)").matches) this.editing.lines.focus(Math.max(0, this.lines.current));
    else this.editing.discardButton.focus();
  }

  async #left({ saved }) {
    this.editing = null;
    this.body.replaceChildren(this.lines.element);
    this.#showSpeakers();
    this.dispatchEvent(new Event("shown"));
    this.button.focus({ preventScroll: true });
    if (saved !== null) await this.load();
    this.player.show(this.transcript.segments, this.transcript.duration);
  }

  /** Again on a line that is being heard: quiet. */
  #hear({ start, end }) {
    const { time, playing } = this.player;
    if (playing && time >= start - 0.02 && time < end) this.player.toggle();
    else this.player.playFrom(start);
  }

  async #restore(version) {
    const body = JSON.stringify({ base: this.versions.newest, restore: version });
    try {
      const made = await this.api.json(`${this.path}/transcript`,
        { method: "PATCH", body, headers: { "Content-Type": "application/json" } });
      say(`Restored as version ${made.version}.`);
    } catch (problem) {
      complain(problem); // of a conflict too: the list below is then the new one
    }
    await this.load();
    this.versions.select.focus();
  }

  /** What a draft changes, or null when the server does not have it. */
  async #baseOf({ version }) {
    if (version === this.transcript.version) return this.transcript;
    try {
      return await this.#fetch(version);
    } catch (problem) {
      if (problem.code !== "version_not_found") throw problem;
      complain({ title: "Changes that were not saved are lost", detail: "The server no longer has the version that they belong to." });
      return null;
    }
  }

  #fetch(version) {
    const query = new URLSearchParams({ format: "json", ...(version !== null && { version }) });
    return this.api.json(`${this.path}/transcript?${query}`, { signal: this.signal });
  }

  #showSpeakers() {
    const { editing, transcript } = this;
    this.head.hidden = !transcript;
    this.head.inert = Boolean(editing?.saving);
    if (!transcript) return;
    this.versions.element.classList.toggle("away", Boolean(editing));
    this.versions.restore.disabled = Boolean(this.#draft);
    this.button.hidden = Boolean(editing || this.#draft) || !this.newest || !transcript.segments.length;
    const segments = editing ? editing.edits.now : transcript.segments;
    this.speakers.show(segments, this.lines.voices,
      { extra: editing?.extra, fixed: Boolean(this.#draft) || (!this.newest && !editing), adding: Boolean(editing) });
    if (editing) this.player.show(segments, transcript.duration);
  }

  #fail(problem) {
    if (this.signal.aborted) return;
    complain(problem);
    this.versions.select.value = String(this.versions.shown);
  }
}
