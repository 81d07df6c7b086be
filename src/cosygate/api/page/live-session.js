// A live session without a socket, a clock or a microphone: what has been said and heard, what to send next, what to do
// when a connection ends (docs/live.md). Whoever drives it (live-link.js) passes the time in, as milliseconds.

import { LiveRing } from "/page/live-ring.js";

export const RATE = 16_000;
const RING = 600 * RATE; // ten minutes, 19 MB
const ANSWER_MS = 8_000; // something was sent, and nothing came back for so long: the connection is dead
const PROBE_MS = 3_000; // the same, after the device's network has changed
const OPEN_MS = 10_000; // from asking for a connection to `ready`
const PING_MS = 9_000; // the server wants to hear something every ten seconds
const FIRST_MS = 100; // of the waits between connections, which double
const LONGEST_MS = 5_000;
const FIRST_TRIES = 6; // of a session that has not begun
const FATAL = { // close codes that no new connection mends
  4400: ["The server did not understand this page", "Reload the page; if it happens again, page and server do not fit."],
  4401: ["The server does not let you in", ""],
  4404: ["This session is gone", "It was deleted, or belongs to somebody else."],
  4409: ["It goes on in another window", "Another window or device has taken this session over."],
  4429: ["That is one session too many", "End another one first."],
};

export class LiveSession {
  ring;
  finals = [];
  partial = null; // {start, end, text}
  gaps = []; // {from, to}, in samples: what the ring could not hold or, with a `code`, no engine could hear
  acked = 0; // the server has everything before this sample
  id = null;
  resumeToken = null;
  done = null; // the server's word that all is out
  problem = null; // {title, detail, code}: why it is over
  ended = false; // nothing more will be said
  held = false; // no connections now: nobody is signed in
  #start;
  #random;
  #link = "down"; // opening: asked for; greeting: open, without `ready`; up
  #adopted; // begun by an earlier life of the page: how much it had sent is for the server to say
  #safe = 0;
  #sent = 0;
  #endSent = false;
  #greeted = false;
  #window = 120_000; // until the server says its own
  #since = 0; // when the connection was asked for
  #retryAt = 0;
  #notBefore = 0; // `moved`
  #tries = 0;
  #contactAt = null; // when the server was last heard
  #askedAt = null; // when the oldest thing was sent that nothing has answered yet
  #spokeAt = 0; // when something was last sent
  #patience = ANSWER_MS;
  #probe = false;
  #error = null; // the server's last `error`, for the close that follows
  #late = false; // a resume of ours got no answer: the server may get to it when we are connected anew
  #mended = new Set(); // fatal codes that have had their one second chance

  /** `start`: members of the first message. `adopt` {session, resume_token}: continue that one instead. */
  constructor({ start = {}, adopt = null, random = Math.random, room = RING }) {
    this.#start = start;
    this.#random = random;
    this.ring = new LiveRing(room);
    this.#adopted = Boolean(adopt);
    if (adopt) [this.id, this.resumeToken] = [adopt.session, adopt.resume_token];
  }

  /** connecting | live | reconnecting | finishing | done | failed */
  get state() {
    if (this.done) return "done";
    if (this.problem) return "failed";
    if (this.ended) return "finishing";
    if (this.#link === "up") return "live";
    return this.#contactAt === null ? "connecting" : "reconnecting";
  }

  get over() {
    return this.done !== null || this.problem !== null;
  }

  get connected() {
    return this.#link === "up";
  }

  /** Seconds that were said and that the server does not have yet. */
  get waiting() {
    return Math.max(0, this.ring.end - this.acked) / RATE;
  }

  push(samples) {
    if (!this.ended && !this.over) this.ring.push(samples);
  }

  end() {
    this.ended = true;
  }

  /** Gives it up: the server finishes what it has. */
  fail(problem) {
    if (!this.over) this.problem = { code: "", ...problem };
  }

  /** Nobody is signed in: no connections until `release`. An open one goes on. */
  hold() {
    this.held = true;
  }

  release(now) {
    this.held = false;
    this.#retryAt = Math.max(now, this.#notBefore);
  }

  /** The device's network came or went: try at once, and find out soon whether an open connection is still one. */
  stir(now) {
    this.#retryAt = Math.max(Math.min(this.#retryAt, now), this.#notBefore);
    if (this.#link !== "up") return;
    this.#probe = true;
    this.#patience = PROBE_MS;
  }

  /** What to do about connections now: "connect", "drop" (the one there is, without waiting for it) or null. */
  step(now) {
    if (this.over) return null;
    if (this.#adopted) this.#contactAt ??= now; // its tries are bounded like those of a session that was cut
    if (this.#link === "down") {
      if (this.held || now < this.#retryAt) return null;
      if (this.#expired(now)) return null;
      [this.#link, this.#since, this.#greeted, this.#error] = ["opening", now, false, null];
      return "connect";
    }
    const late = this.#link === "up"
      ? this.#askedAt !== null && now - this.#askedAt > this.#patience
      : now - this.#since > OPEN_MS;
    if (!late) return null;
    this.closed(1006, now);
    return "drop";
  }

  opened() {
    if (this.#link === "opening") this.#link = "greeting";
  }

  /** The next message for the open connection: a text, bytes, or null when there is nothing to say. */
  next(now) {
    const message = this.over ? null : this.#link === "greeting" ? this.#greeting() : this.#link === "up" ? this.#spoken(now) : null;
    if (message !== null) {
      this.#spokeAt = now;
      this.#askedAt ??= now;
    }
    return message;
  }

  #greeting() {
    if (this.#greeted) return null;
    this.#greeted = true;
    return JSON.stringify(this.id
      ? { type: "resume", session: this.id, resume_token: this.resumeToken, last_final: this.finals.length ? this.finals.length - 1 : null }
      : { ...this.#start, type: "start", sample_rate: RATE, format: "s16le" });
  }

  #spoken(now) {
    if (this.#probe) {
      this.#probe = false;
      return JSON.stringify({ type: "ping" });
    }
    if (this.#sent < this.ring.start) { // the ring could not hold it; what is lost is never hidden
      const gap = { from: this.#sent, to: this.ring.start };
      this.#handlers.gap(gap);
      this.#sent = gap.to;
      return JSON.stringify({ type: "gap", ...gap });
    }
    const frame = this.ring.at(this.#sent);
    if (frame) {
      this.#sent = frame.end;
      return frame.wire;
    }
    if (this.ended && !this.#endSent) {
      this.#endSent = true;
      return JSON.stringify({ type: "end", samples: this.#sent });
    }
    return now - this.#spokeAt >= PING_MS ? JSON.stringify({ type: "ping" }) : null;
  }

  received(message, now) {
    if (this.over || !["greeting", "up"].includes(this.#link)) return;
    this.#contactAt = now;
    this.#askedAt = null;
    this.#patience = ANSWER_MS;
    this.#handlers[message.type]?.(message, now);
  }

  #handlers = {
    ready: (message) => {
      [this.id, this.resumeToken, this.#window] = [message.session, message.resume_token, message.window_s * 1000];
      if (this.#adopted) {
        this.ring.shift(message.offset);
        this.#adopted = false;
      }
      this.#link = "up";
      this.#tries = 0;
      this.#notBefore = 0;
      this.#endSent = false;
      this.acked = this.#sent = Math.min(message.offset, this.ring.end);
    },
    ack: ({ samples, safe }) => {
      this.acked = Math.max(this.acked, samples);
      this.#safe = Math.max(this.#safe, safe);
      this.ring.forget(this.#safe);
      this.#mended.clear();
    },
    partial: (message) => { this.partial = message.text ? message : null; },
    final: (message, now) => {
      if (message.id < this.finals.length) return; // replayed, and known
      if (message.id > this.finals.length) return void this.closed(1006, now); // the resume brings the one between
      this.finals.push(message);
      if (this.partial && message.end >= this.partial.start) this.partial = null;
    },
    gap: (message) => { if (!this.gaps.some(({ from }) => from === message.from)) this.gaps.push(message); },
    moved: ({ reconnect_in_ms }, now) => { this.#notBefore = now + reconnect_in_ms; },
    done: (message) => {
      this.partial = null;
      this.done = message;
    },
    error: (message) => { this.#error = message; },
  };

  /** The connection has ended, or never came to be; `problem` says why if it is known (a ticket was refused). */
  closed(code, now, problem = null) {
    if (this.over || this.#link === "down") return;
    if (this.#link === "greeting" && this.#greeted && !(code in FATAL)) this.#late = true;
    this.#link = "down";
    this.#askedAt = null;
    this.#patience = ANSWER_MS;
    this.#probe = false;
    if (problem && !problem.retryable) return this.fail(problem);
    const reason = this.#error ?? problem;
    if (code in FATAL && !this.#mendable(code)) return this.fail(this.#words(code));
    if (code === 4503 && this.#contactAt === null) return this.fail(this.#words(code));
    this.#tries += 1;
    if (!this.id && this.#tries >= FIRST_TRIES) {
      return this.fail(reason?.title ? reason : { title: "The server cannot be reached", detail: "Is it running?" });
    }
    const wait = Math.min(LONGEST_MS, FIRST_MS * 2 ** (this.#tries - 1));
    this.#retryAt = Math.max(now + wait * (0.5 + this.#random() / 2), this.#notBefore);
    this.#expired(now);
  }

  /** A gap that should not be is mended by asking where to go on; a ticket may have aged on its way. Once each. And
      who took us over may be ourselves. */
  #mendable(code) {
    if (code === 4409 && this.#late) { // taken over by an attempt of our own that the server got to late, it may be
      this.#late = false;
      return true;
    }
    const may = code === 4401 || (code === 4400 && this.#error?.code === "gap" && this.id);
    if (!may || this.#mended.has(code)) return false;
    this.#mended.add(code);
    return true;
  }

  #words(code) {
    const [title, detail] = FATAL[code] ?? ["The server cannot take a live session now", "Try again in a moment."];
    return { title, detail: this.#error?.detail || detail, code: this.#error?.code ?? "" };
  }

  /** The server finishes by itself what nobody has resumed in time. */
  #expired(now) {
    if (this.#contactAt === null || now - this.#contactAt <= this.#window) return false;
    this.fail({ title: "The server was out of reach for too long",
      detail: `${Math.round((now - this.#contactAt) / 1000)} seconds. What it had received by then is being finished there.` });
    return true;
  }
}
