// One task, from waiting to transcript: its state, its lines as they are recognised, the sound, downloads, deleting.

import { complain, confirm, h, icon, problemWords, say, setText } from "/page/dom.js";
import { downloads } from "/page/downloads.js";
import { taskEvents } from "/page/events.js";
import { Lines } from "/page/lines.js";
import { Player } from "/page/player.js";
import { Reading } from "/page/reading.js";
import { ACTIVE } from "/page/tasks.js";
import { bytes, clock, language, when } from "/page/words.js";

const SAY_EVERY = 25; // percent: more would talk over the lines

export class TaskView {
  #stop = new AbortController();

  /** `leave()` is called when the task is gone. `drafts`: what is not saved yet. */
  constructor({ api, tasks, drafts, taskId, root, leave }) {
    Object.assign(this, { api, tasks, drafts, taskId, root, leave });
    this.path = `/v1/task/${encodeURIComponent(taskId)}`;
    this.lines = new Lines();
    this.player = new Player(api, taskId);
    this.player.voiceOf = (segment) => this.lines.voices.of(segment);
    this.reading = new Reading({ api, path: this.path, taskId, drafts, lines: this.lines, player: this.player, signal: this.#stop.signal });
    this.reading.addEventListener("shown", () => this.#show(this.task));
    this.lines.addEventListener("pick", ({ detail }) => this.player.playFrom(detail.start));
    this.player.addEventListener("time", () => {
      if (this.player.time > 0 || this.player.playing) this.reading.mark(this.player.time, this.player.playing);
    });
    this.#build();
  }

  async open() {
    const known = this.tasks.get(this.taskId);
    if (known) this.#show(known);
    try {
      await this.#reload();
      this.player.open();
      if (ACTIVE.has(this.task.state)) await this.#follow();
      if (this.task.state === "succeeded") await this.reading.open();
    } catch (problem) {
      if (!this.#stop.signal.aborted) this.#fail(problem);
    }
  }

  /** Whether changes are not saved, and whether they would be lost by leaving. */
  get unsaved() {
    return this.reading.unsaved;
  }

  get wouldLose() {
    return this.reading.wouldLose;
  }

  /** Puts what is not saved where a reload leaves it. */
  keep() {
    this.reading.editing?.keep();
  }

  close() {
    this.#stop.abort();
    this.reading.close();
    this.player.close();
    this.lines.close();
  }

  /** Space plays and pauses wherever it means nothing else. */
  onKey(event) {
    if (this.reading.onKey(event)) return;
    if (event.key !== " " || event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.target.closest("button, a, input, select, textarea, summary, dialog")) return;
    event.preventDefault();
    this.player.toggle();
  }

  async #reload() {
    this.#show(await this.api.json(this.path, { signal: this.#stop.signal }));
    this.tasks.update(this.taskId, this.task);
  }

  async #follow() {
    this.lines.live = true;
    for await (const { kind, data } of taskEvents(this.api, this.taskId, { signal: this.#stop.signal })) {
      if (kind === "segment") {
        if (!ACTIVE.has(this.task.state)) continue; // on its way when it was cancelled here
        this.lines.add(data);
        this.player.show(this.lines.segments);
      } else if (kind === "restarted") { // claimed again: it is recognised from the start
        this.lines.clear();
        this.player.show([]);
      } else if (kind === "progress" && data.percent > 0) {
        this.#show({ ...this.task, state: "running", percent: data.percent });
        this.tasks.update(this.taskId, { state: "running", percent: data.percent });
      }
    }
    this.lines.live = false;
    await this.#reload();
    say({ succeeded: "The transcript is complete.", failed: "Recognition failed.", cancelled: "Cancelled." }[this.task.state] ?? "");
  }

  #build() {
    this.title = h("h1", { tabindex: "-1" });
    this.meta = h("p", { class: "quiet small meta" });
    this.bin = h("button", { class: "button plain", type: "button", onclick: () => this.#delete() }, icon("bin"), h("span", {}));
    this.copy = h("button", { class: "button plain", type: "button", onclick: () => this.#copy() }, icon("copy"), h("span", {}, "Copy"));
    this.downloads = downloads(this.api, this.path, () => ({ name: this.task.file, version: this.reading.transcript?.version }));
    this.bar = h("progress", { max: "100", value: "0", "aria-label": "Recognition" });
    this.stage = h("span", {});
    this.going = h("div", { class: "going" }, h("p", { class: "small" }, this.stage), this.bar);
    this.ended = h("div", { class: "ended" });
    this.root.replaceChildren(
      h("header", { class: "task-head" },
        h("a", { class: "button plain back", href: "#/" }, icon("left"), "All transcripts"),
        this.title, this.meta,
        h("div", { class: "actions" }, this.downloads, h("span", { class: "actions-end" }, this.reading.button, this.copy, this.bin)),
        this.going, this.ended, this.reading.head),
      this.reading.body, this.player.element);
    for (const part of [this.downloads, this.copy, this.going, this.ended]) part.hidden = true;
  }

  #show(task) {
    const before = this.task;
    this.task = task;
    const { state, percent, result } = task;
    const name = task.file || "Untitled recording";
    const active = ACTIVE.has(state);
    const done = state === "succeeded";
    setText(this.title, name);
    document.title = `${name} · CosyGate`;
    const { transcript, editing } = this.reading;
    this.root.classList.toggle("is-edited", Boolean(editing));
    const engine = transcript?.engine;
    const spoken = result?.language ?? transcript?.language;
    setText(this.meta, [result ? clock(result.duration) : "", spoken ? language(spoken) : "",
      result?.flags?.includes("language_mismatch") ? "not in a language of the model" : "", engine?.model ?? "",
      when(task.created_at), bytes(task.size)].filter(Boolean).join(" · "));
    setText(this.bin.lastChild, active ? "Cancel" : "Delete");
    this.downloads.hidden = !done;
    this.copy.hidden = !done || !navigator.clipboard;
    this.going.hidden = !active;
    this.bar.value = percent;
    setText(this.stage, state === "queued" ? "Waiting for an engine" : `Recognising · ${percent} %`);
    if (active && Math.floor((before?.percent ?? 0) / SAY_EVERY) < Math.floor(percent / SAY_EVERY)) say(`${percent} percent recognised`);
    this.#showEnd(task, before?.state !== state);
    this.player.element.hidden = state === "cancelled";
  }

  #showEnd({ state, error }, changed) {
    const { transcript } = this.reading;
    if (!changed && !(state === "succeeded" && transcript)) return;
    const silent = state === "succeeded" && transcript && !transcript.segments.length;
    const words = {
      failed: () => h("div", { class: "verdict bad", role: "alert" }, h("strong", {}, "This recording could not be transcribed. "),
        error?.detail ?? "", " ", error?.code ? h("span", { class: "trace" }, "Code ", h("code", {}, error.code)) : null),
      cancelled: () => h("p", { class: "verdict" }, "Cancelled. The recording has been erased."),
      succeeded: () => (silent ? h("p", { class: "verdict" }, "Nobody speaks in this recording.") : null),
    }[state]?.();
    this.ended.replaceChildren(...(words ? [words] : []));
    this.ended.hidden = !words;
  }

  #fail(problem) {
    this.lines.live = false;
    if (!this.task) setText(this.title, problem.status === 404 ? "Not here" : "This transcript cannot be shown");
    this.ended.replaceChildren(h("div", { class: "verdict bad", role: "alert" }, problemWords(problem)));
    this.ended.hidden = false;
    this.player.element.hidden ||= !this.task;
    this.root.querySelector(".actions").hidden = !this.task;
    if (problem.status === 404) this.tasks.remove(this.taskId);
  }

  async #copy() {
    await navigator.clipboard.writeText(this.reading.transcript?.text ?? this.task.result.text).catch(complain);
    say("Copied");
    setText(this.copy.lastChild, "Copied");
    setTimeout(() => setText(this.copy.lastChild, "Copy"), 2000);
  }

  async #delete() {
    const active = ACTIVE.has(this.task.state);
    const sure = await confirm(active
      ? { title: "Cancel this recognition?", text: "The recording is erased on the server too.", yes: "Cancel and erase", no: "Go on", danger: true }
      : { title: "Delete this transcript?", text: "The recording and its transcript are erased. This cannot be undone.", yes: "Delete", danger: true });
    if (!sure) return;
    try {
      const answer = await this.api.json(this.path, { method: "DELETE" });
      if (answer) { // it was active: the task stays, as cancelled
        this.player.close();
        this.lines.clear();
        this.#show({ ...this.task, state: answer.state });
        this.tasks.update(this.taskId, { state: answer.state });
        return;
      }
    } catch (problem) {
      if (problem.status !== 404) return void complain(problem);
    }
    this.drafts.remove(this.taskId);
    this.tasks.remove(this.taskId);
    say("Deleted");
    this.leave();
  }
}
