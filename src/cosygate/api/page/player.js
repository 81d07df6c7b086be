// The sound of a recording. An <audio> element cannot send a token, so the page asks for a short-lived cookie that
// opens this one recording alone, and renews it while the player is there.

import { h, icon, problemWords, setText } from "/page/dom.js";
import { drawStrip } from "/page/strip.js";
import { clock, clockWords } from "/page/words.js";

const RENEW_MS = 8 * 60_000; // the cookie lives ten minutes
const SKIP_S = 10;
const SPEEDS = ["0.75", "1", "1.25", "1.5", "2"];

/** Event `time`: what is heard has moved. */
export class Player extends EventTarget {
  #renewal = null;
  #renewedFor = -1; // where the last renewal after an error was: a second error there is not the cookie's
  #segments = [];
  #known = 0; // seconds, from the transcript: some files do not say how long they are
  #stop = new AbortController();

  constructor(api, taskId) {
    super();
    this.api = api;
    this.base = `/v1/task/${encodeURIComponent(taskId)}`;
    this.audio = h("audio", { preload: "metadata" });
    this.#build();
    this.#listen();
  }

  get time() {
    return this.audio.currentTime;
  }

  get playing() {
    return !this.audio.paused;
  }

  get duration() {
    return Number.isFinite(this.audio.duration) ? this.audio.duration : this.#known;
  }

  /** Makes the recording playable. What cannot be played is said in the player, not thrown. */
  async open() {
    try {
      await this.#renew();
      this.#stop.signal.throwIfAborted();
      this.audio.src = `${this.base}/audio`;
    } catch (problem) {
      if (!this.#stop.signal.aborted) this.#fail(problem);
    }
  }

  close() {
    this.#stop.abort();
    clearInterval(this.#renewal);
    this.sizes.disconnect();
    this.audio.pause();
    this.audio.removeAttribute("src");
    this.audio.load(); // lets go of the connection
  }

  /** Where speech is, for the strip. `seconds` is the length if it is known. */
  show(segments, seconds = 0) {
    this.#segments = segments;
    this.#known = Math.max(seconds, segments.at(-1)?.end ?? 0);
    this.#draw();
  }

  playFrom(seconds) {
    this.#seek(seconds);
    this.#play();
  }

  toggle() {
    if (this.playing) this.audio.pause();
    else this.#play();
  }

  async #play() {
    try {
      await this.audio.play();
    } catch (error) {
      if (error.name === "NotAllowedError") this.#fail({ title: "The browser does not let this page play sound" });
    } // everything else arrives as an error event
  }

  #seek(seconds) {
    this.audio.currentTime = Math.min(Math.max(0, seconds), this.duration || seconds);
    this.#draw();
  }

  async #renew() {
    await this.api.call(`${this.base}/audio-cookie`, { method: "POST", signal: this.#stop.signal });
    this.#renewal ??= setInterval(() => this.#renew().catch(() => {}), RENEW_MS); // a failure shows when it plays on
  }

  /** The cookie may have expired while the machine slept: one new one for each place, then the error is real. */
  async #onError() {
    if (!this.audio.hasAttribute("src") || this.#stop.signal.aborted) return;
    const [time, playing] = [this.audio.currentTime, this.playing];
    if (this.#renewedFor === time) {
      this.#fail({ title: "This browser cannot play the recording",
        detail: "The transcript is not affected." });
      return;
    }
    this.#renewedFor = time;
    try {
      await this.#renew();
      this.audio.load();
      this.audio.currentTime = time;
      if (playing) this.#play();
    } catch (problem) {
      if (!this.#stop.signal.aborted) this.#fail(problem);
    }
  }

  #fail(problem) {
    this.element.classList.add("broken");
    for (const control of this.element.querySelectorAll("button, input, select")) control.disabled = true;
    this.trouble.replaceChildren(problemWords(problem));
  }

  #build() {
    const small = (label, name, onclick) => h("button",
      { class: "button plain square", type: "button", "aria-label": label, title: label, onclick }, icon(name));
    this.button = h("button", { class: "button strong round", type: "button", "aria-label": "Play",
      onclick: () => this.toggle() }, icon("play"));
    this.slider = h("input", { type: "range", min: "0", max: "0", step: "0.1", value: "0", "aria-label": "Position",
      oninput: () => this.#seek(Number(this.slider.value)) });
    this.canvas = h("canvas", { "aria-hidden": "true" });
    this.clock = h("span", { class: "clock" });
    this.speed = h("select", { "aria-label": "Speed", onchange: () => { this.audio.playbackRate = Number(this.speed.value); } },
      SPEEDS.map((speed) => h("option", { value: speed, selected: speed === "1" }, `${speed}×`)));
    this.trouble = h("p", { class: "small wrong", role: "alert" });
    this.element = h("section", { class: "player", "aria-label": "Player" },
      h("div", { class: "strip" }, this.canvas, this.slider),
      h("div", { class: "player-row" },
        this.clock,
        h("div", { class: "player-buttons" },
          small(`Back ${SKIP_S} seconds`, "back10", () => this.#seek(this.time - SKIP_S)),
          this.button,
          small(`Ahead ${SKIP_S} seconds`, "ahead10", () => this.#seek(this.time + SKIP_S))),
        this.speed),
      this.trouble, this.audio);
  }

  #listen() {
    const on = (names, work) => names.split(" ").forEach((name) => this.audio.addEventListener(name, work));
    on("timeupdate seeking seeked durationchange ended", () => {
      this.#draw();
      this.dispatchEvent(new Event("time"));
    });
    on("play pause ended", () => {
      this.button.setAttribute("aria-label", this.playing ? "Pause" : "Play");
      this.button.replaceChildren(icon(this.playing ? "pause" : "play"));
    });
    on("error", () => this.#onError());
    this.sizes = new ResizeObserver(() => this.#draw());
    this.sizes.observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw(), { signal: this.#stop.signal });
  }

  #draw() {
    this.slider.max = String(this.duration);
    this.slider.value = String(this.time);
    this.slider.setAttribute("aria-valuetext", `${clockWords(this.time)} of ${clockWords(this.duration)}`);
    setText(this.clock, `${clock(this.time)} / ${clock(this.duration)}`);
    drawStrip(this.canvas, { segments: this.#segments, time: this.time, duration: this.duration, voiceOf: this.voiceOf });
  }

  voiceOf = () => -1; // set by whoever knows the voices' colours
}
