// Speaking: the microphone, the session that carries it, and what is left of one after a reload. Draws nothing.

import { LiveLink } from "/page/live-link.js";
import { LiveSession } from "/page/live-session.js";
import { Microphone } from "/page/microphone.js";
import { keepAwake } from "/page/wake.js";

const KEY = "cosygate.live"; // in sessionStorage: {owner, session, resume_token}
const LEAVE_MS = 3_000; // the longest that signing out waits for the last words to arrive
const LEVELS = 400; // points of the level meter: 20 s

/** The name of its task: there is no file that could give one. */
function nameNow(date = new Date()) {
  const two = (n) => String(n).padStart(2, "0");
  return `Spoken ${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${two(date.getHours())}h${two(date.getMinutes())}`;
}

/** Events: `change`, `level`, `finished` with detail {taskId, missing} (seconds that did not arrive). */
export class Live extends EventTarget {
  session = null;
  levels = [];
  problem = null; // why the microphone does not or no longer give anything
  asking = false; // the browser is asking the user for the microphone
  #mic = null;
  #link = null;
  #sleep = null;
  #owner = ""; // whose session it is
  #stored = ""; // the id of the session that a reload would find

  /** `owner()`: the key of whoever is signed in. */
  constructor(api, owner) {
    super();
    this.api = api;
    this.owner = owner;
    addEventListener("beforeunload", (event) => { if (this.speaking) event.preventDefault(); });
  }

  /** Something would be lost by leaving. */
  get active() {
    return this.asking || Boolean(this.session && !this.session.over);
  }

  get speaking() {
    return this.active && !this.session?.ended;
  }

  /** What a reload has cut off, or null. */
  get cutOff() {
    try {
      const kept = JSON.parse(sessionStorage.getItem(KEY));
      return !this.active && kept?.owner === this.owner() ? kept : null;
    } catch {
      return null; // written by something else
    }
  }

  /** Begins, or goes on with what a reload cut off. `options`: members of the first message. */
  async start(options, { adopt = null } = {}) {
    if (this.active) return;
    const start = { ...options, options: { ...options.options, filename: nameNow() } };
    const session = this.#begin(new LiveSession({ start, adopt }));
    this.asking = true;
    this.#changed();
    const mic = this.#mic = new Microphone({
      onSamples: (samples) => (this.#link ? this.#link.push(samples) : session.push(samples)),
      onLevel: (level) => this.#heard(level),
      onLost: (problem) => { this.problem = problem; this.stop(); },
    });
    try {
      await mic.open();
    } catch (problem) {
      if (this.session === session) this.#refused(problem);
      return;
    }
    if (this.session !== session) return void mic.close(); // given up meanwhile
    this.asking = false;
    this.#sleep = keepAwake();
    this.#connect(session);
  }

  /** Says that what a reload cut off was all. */
  finish(adopt) {
    const session = this.#begin(new LiveSession({ adopt }));
    session.end();
    this.#connect(session);
  }

  /** The last words go out; the session is over when the server says so. */
  async stop() {
    if (this.asking) return this.abandon();
    const link = this.#link;
    await this.#mic?.close();
    this.#mic = null;
    this.#sleep?.();
    link?.end();
  }

  /** Somebody has to sign in again: nothing is lost meanwhile. */
  rest() {
    this.session?.hold();
  }

  /** Somebody has signed in. What was another caller's is given up. */
  enter() {
    if (this.session && this.#owner !== this.owner()) this.abandon();
    this.#link?.release();
    this.#changed();
  }

  /** Stops and forgets, for somebody who signs out: the last words go out if the line lets them. */
  async leave() {
    if (this.active) {
      const over = new Promise((resolve) => {
        setTimeout(resolve, LEAVE_MS);
        this.addEventListener("change", () => { if (!this.active) resolve(); });
      });
      await this.stop();
      await over;
    }
    this.abandon();
  }

  /** Gives it up: the server finishes what it has. */
  abandon() {
    this.#letGo();
    this.#link?.close();
    this.session = this.#link = null;
    if (!this.asking) sessionStorage.removeItem(KEY);
    this.asking = false;
    this.#changed();
  }

  /** A link for those who only read: {url, expires_in}. */
  async share() {
    const shared = await this.api.json(`/v1/live/${encodeURIComponent(this.session.id)}/shares`, { method: "POST" });
    return { ...shared, url: new URL(shared.captions_url, location.origin).href };
  }

  #begin(session) {
    this.#link?.close();
    this.#link = null;
    this.#stored = "";
    this.problem = null;
    this.levels = [];
    this.#owner = this.owner();
    this.session = session;
    return session;
  }

  #connect(session) {
    const link = this.#link = new LiveLink(this.api, session);
    link.addEventListener("change", () => this.#look(session));
    this.#look(session);
  }

  #look(session) {
    if (session !== this.session) return;
    if (session.id && session.id !== this.#stored) {
      this.#stored = session.id;
      sessionStorage.setItem(KEY, JSON.stringify({ owner: this.#owner, session: session.id, resume_token: session.resumeToken }));
    }
    if (session.over) this.#over(session);
    this.#changed();
  }

  #over(session) {
    this.#letGo();
    sessionStorage.removeItem(KEY);
    if (!session.done) return;
    const missing = Math.max(0, session.ring.end - session.done.samples) / 16_000;
    this.dispatchEvent(new CustomEvent("finished", { detail: { taskId: session.done.task_id, missing } }));
  }

  #refused(problem) {
    this.#mic = null;
    this.asking = false;
    this.session = null;
    this.problem = problem;
    this.#changed();
  }

  #letGo() {
    this.#mic?.close();
    this.#mic = null;
    this.#sleep?.();
    this.#sleep = null;
  }

  #heard(level) {
    this.levels.push(level);
    if (this.levels.length > LEVELS) this.levels.shift();
    this.dispatchEvent(new Event("level"));
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
