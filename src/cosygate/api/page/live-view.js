// Speaking, as it is seen: the words as they come, the level, the state of the connection, stopping, sharing.

import { complain, h, icon, problemWords, say, setText } from "/page/dom.js";
import { LiveLines } from "/page/live-lines.js";
import { drawLevels } from "/page/meter.js";
import { clock } from "/page/words.js";

const QUIET = 0.004; // a peak below it, all the time, is no voice
const QUIET_POINTS = 160; // of the level: 8 s
const TELL_S = 1; // seconds kept here before the state says so while the connection is there

/** The state in words. */
function words(live) {
  const { session } = live;
  if (live.asking) return "Waiting for the microphone: the browser asks you";
  if (!session) return "Not recording";
  const kept = session.waiting >= TELL_S ? ` · ${Math.round(session.waiting)} s kept here` : "";
  return {
    connecting: `Connecting${kept}`,
    live: `Live${kept}`,
    reconnecting: `Reconnecting, recording goes on${kept}`,
    finishing: session.connected ? `Finishing${kept}` : `Finishing, reconnecting${kept}`,
    done: "Done",
    failed: "Ended",
  }[session.state];
}

const SAID = { live: "Connected. Recording.", reconnecting: "Connection lost. Recording goes on.", finishing: "Finishing.", done: "Done.", failed: "Ended." };

export class LiveView {
  #said = "";
  #shown = null; // the session whose lines are there
  #link = null; // the share's link, once there is one

  /** `start()` begins speaking, `resume(kept)` and `finish(kept)` take up what a reload cut off. */
  constructor({ live, root, start, resume, finish }) {
    Object.assign(this, { live, root, start, resume, finish });
    this.#build();
    live.addEventListener("change", () => this.draw());
    live.addEventListener("level", () => this.#level());
    addEventListener("resize", () => this.#level());
    this.draw();
  }

  #build() {
    this.title = h("h1", { tabindex: "-1" }, "Speak");
    this.hint = h("p", { class: "quiet small meta" }, "What you say appears here while you say it. Stopped, it is a transcript like any other, with its sound.");
    this.trouble = h("div", { class: "ended" });
    this.share = h("div", { class: "share" });
    this.lines = new LiveLines();
    this.state = h("p", { class: "live-state small" });
    this.meter = h("canvas", { "aria-hidden": "true" });
    this.gauge = h("div", { class: "meter", role: "meter", "aria-label": "Microphone level", "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": "0" }, this.meter);
    this.clock = h("span", { class: "clock" }, "0:00");
    this.stop = h("button", { class: "button strong stop", type: "button", onclick: () => this.live.stop() }, icon("stop"), "Stop");
    this.begin = h("button", { class: "button strong", type: "button", onclick: () => this.start() }, icon("mic"), "Speak");
    this.sharing = h("button", { class: "button plain", type: "button", onclick: () => this.#share().catch(complain) }, icon("share"), "Share");
    this.parts = [
      h("header", { class: "task-head" }, h("a", { class: "button plain back", href: "#/" }, icon("left"), "All transcripts"),
        this.title, this.hint, this.trouble, this.share),
      this.lines.element,
      h("section", { class: "player live-bar", "aria-label": "Recording" }, this.state, this.gauge,
        h("div", { class: "player-row" }, this.clock, h("div", { class: "player-buttons" }, this.begin, this.stop), this.sharing)),
    ];
  }

  /** Puts it on the page, or takes it away. It goes on all the same. */
  show(on) {
    this.root.hidden = !on;
    this.root.replaceChildren(...(on ? this.parts : []));
    if (!on) return;
    document.title = "Speak · CosyGate";
    this.draw();
    this.#level();
    this.lines.follow();
    if (document.activeElement === document.body || document.activeElement.id === "speak") this.title.focus({ preventScroll: true });
  }

  draw() {
    const { live } = this;
    const { session } = live;
    if (session !== this.#shown) this.#restart(session);
    const state = live.asking ? "asking" : (session?.state ?? "idle");
    this.root.dataset.state = state;
    setText(this.state, words(live) + (this.#silent() ? " · Nothing is heard: is the microphone muted?" : ""));
    setText(this.clock, clock((session?.ring.end ?? 0) / 16_000));
    this.#swap(this.stop, this.begin, live.speaking, state !== "finishing");
    this.sharing.hidden = !session?.id || session.over;
    this.hint.hidden = Boolean(session);
    setText(this.title, session ? "Live transcript" : "Speak");
    if (session) this.lines.show(session);
    this.#drawTrouble(session);
    if (state !== this.#said) { // states are told; partials are not, finals tell themselves
      this.#said = state;
      if (SAID[state]) say(SAID[state]);
    }
  }

  #restart(session) {
    this.#shown = session;
    this.#link = null;
    this.share.replaceChildren();
    if (session) this.lines.clear();
    this.#level();
  }

  /** Shows `one` while `first`, `other` otherwise (if `may`); the focus stays where the button was. */
  #swap(one, other, first, may) {
    const focused = document.activeElement === one || document.activeElement === other;
    one.hidden = !first;
    other.hidden = first || !may;
    if (focused) (first ? one : may ? other : this.title).focus({ preventScroll: true });
  }

  #drawTrouble(session) {
    const problem = session?.problem ?? this.live.problem;
    const kept = this.live.cutOff;
    const key = problem ? JSON.stringify([problem, session?.id]) : session && !session.over ? "" : (kept?.session ?? "");
    if (this.trouble.dataset.key === key) return;
    this.trouble.dataset.key = key;
    const parts = [];
    if (problem) {
      parts.push(h("div", { class: "verdict bad", role: "alert" }, problemWords(problem),
        session?.problem && session.id ? h("a", { href: `#/task/${encodeURIComponent(session.id)}` }, "What the server has of it") : null));
    } else if (key) {
      parts.push(h("div", { class: "verdict" },
        h("p", {}, h("strong", {}, "A session was cut off"), " when this page was reloaded. What had been sent is on the server."),
        h("div", { class: "verdict-actions" },
          h("button", { class: "button strong", type: "button", onclick: () => this.finish(kept) }, "Finish it"),
          h("button", { class: "button", type: "button", onclick: () => this.resume(kept) }, "Go on speaking"))));
    }
    this.trouble.replaceChildren(...parts);
    this.trouble.hidden = !parts.length;
  }

  #silent() {
    const { levels } = this.live;
    return this.live.speaking && levels.length >= QUIET_POINTS && Math.max(...levels.slice(-QUIET_POINTS)) < QUIET;
  }

  #level() {
    if (this.root.hidden) return;
    const level = drawLevels(this.meter, this.live.levels);
    const now = String(Math.round(level * 10) * 10); // in tens: nobody listens to each change
    if (this.gauge.getAttribute("aria-valuenow") !== now) this.gauge.setAttribute("aria-valuenow", now);
  }

  async #share() {
    if (!this.#link) {
      const { session } = this.live;
      const shared = await this.live.share();
      if (session !== this.#shown) return;
      this.#link = shared;
      this.#drawShare(shared);
    }
    const field = this.share.querySelector("input");
    field.focus();
    field.select();
  }

  #drawShare({ url, expires_in }) {
    const copied = h("span", {}, "Copy");
    const copy = h("button", { class: "button", type: "button", onclick: async () => {
      await navigator.clipboard.writeText(url).catch(complain);
      say("Copied");
      setText(copied, "Copied");
      setTimeout(() => setText(copied, "Copy"), 2000);
    } }, icon("copy"), copied);
    copy.hidden = !navigator.clipboard;
    this.share.replaceChildren(h("div", { class: "verdict" },
      h("label", { for: "share-link" }, "Captions link"),
      h("div", { class: "share-row" }, h("input", { id: "share-link", readonly: true, value: url, "aria-describedby": "share-hint" }), copy),
      h("p", { id: "share-hint", class: "small quiet" },
        `Whoever has it can read along, without signing in, and nothing else. It works for ${Math.max(1, Math.round(expires_in / 3600))} h.`)));
  }
}
