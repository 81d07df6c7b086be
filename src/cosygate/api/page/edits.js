// What somebody has changed of a transcript and not saved yet, with every step to undo: no elements, no server.
//
// Names change in two ways. A rename holds for a speaker of the base wherever it stands, in words too; a line may also
// have been given a speaker of its own. Two speakers with one name are one from then on, and undoing parts them again.

const STEPS = 500; // that can be undone; the oldest go first
const PAUSE_MS = 1_000; // typing goes on in the same step until there is such a pause

export const LONGEST_NAME = 64; // characters, as the server has it

/** Whose a segment is: its speaker's name, else the number of its channel, else null. */
export const voiceOf = ({ speaker, channel }) => speaker ?? channel ?? null;

/** A text or a name as it is saved: without control characters, one space where there are several. */
export const clean = (text) => text.replace(/[\s\p{Cc}\p{Cs}]+/gu, " ").trim();

function put(map, key, value) {
  if (value === undefined) map.delete(key);
  else map.set(key, value);
}

export class Edits {
  #texts = new Map(); // place → its text
  #own = new Map(); // place → the speaker that this line alone was given
  #names = new Map(); // speaker (a text) or channel (a number) of the base → its name
  #done = [];
  #undone = [];
  #voices; // the speakers and channels of the base, those of words too

  /** `base` is a transcript as the server gives it; `draft` what an earlier `draft` of the same version told. */
  constructor(base, draft = null) {
    this.base = base;
    this.segments = base.segments;
    this.#voices = new Set(base.segments.flatMap((segment) =>
      [voiceOf(segment), ...(segment.words ?? []).map(({ speaker }) => speaker)]).filter((voice) => voice !== null && voice !== undefined));
    if (draft) this.#take(draft);
  }

  text(at) {
    return this.#texts.get(at) ?? this.segments[at].text;
  }

  /** A line's speaker by name, or null. */
  speaker(at) {
    return this.#own.get(at) ?? this.#nameOf(voiceOf(this.segments[at]));
  }

  /** Whose a line is now: a name, else its channel's number, else null. */
  voice(at) {
    return voiceOf({ speaker: this.speaker(at), channel: this.segments[at].channel });
  }

  /** Everybody who speaks in a line that is not empty, in the order of appearance. */
  get voices() {
    const all = new Set(this.segments.map((_, at) => (clean(this.text(at)) ? this.voice(at) : null)));
    all.delete(null);
    return [...all];
  }

  /** The segments as they are now, for the sound's strip and the shares of the speakers. */
  get now() {
    return this.segments.map((segment, at) => ({ ...segment, text: this.text(at), speaker: this.speaker(at) ?? undefined }))
      .filter(({ text }) => clean(text));
  }

  setText(at, text, now = performance.now()) {
    if (text === this.text(at)) return;
    const after = text === this.segments[at].text ? undefined : text;
    const last = this.#done.at(-1);
    if (last?.typing === at && now - last.time < PAUSE_MS && !this.#undone.length) {
      last.texts[0][2] = after;
      last.time = now;
      put(this.#texts, at, after);
      if (after === last.texts[0][1]) this.#done.pop(); // all of it was taken back: there is nothing to undo
    } else {
      this.#do({ at, typing: at, time: now, texts: [[at, this.#texts.get(at), after]] });
    }
  }

  /** Gives one line a speaker. */
  setSpeaker(at, name) {
    if (name === this.speaker(at)) return;
    const after = name === this.#nameOf(voiceOf(this.segments[at])) ? undefined : name;
    this.#do({ at, own: [[at, this.#own.get(at), after]] });
  }

  /** Calls a speaker (a name, or a channel's number) `name` everywhere. Another's name: the two are one from now on. */
  rename(voice, name) {
    if (voice === name) return;
    const isIt = (key) => (this.#nameOf(key) ?? key) === voice;
    const names = [...this.#voices].filter(isIt)
      .map((key) => [key, this.#names.get(key), key === name ? undefined : name]);
    const own = [...this.#own].filter(([, given]) => given === voice).map(([at, given]) => [at, given, name]);
    if (names.length || own.length) this.#do({ renamed: [voice, name], names, own });
  }

  /** Takes the last step back. The step, or null when there is none. */
  undo() {
    return this.#move(this.#done, this.#undone, 1);
  }

  redo() {
    return this.#move(this.#undone, this.#done, 2);
  }

  get canUndo() {
    return this.#done.length > 0;
  }

  get canRedo() {
    return this.#undone.length > 0;
  }

  /** How many things differ from the base. */
  get count() {
    return this.patch() ? this.#texts.size + this.#own.size + this.#names.size : 0;
  }

  /** The body of the one PATCH that saves all of it, or null when nothing differs from the base. */
  patch() {
    const speakers = Object.fromEntries([...this.#names].filter(([key]) => typeof key === "string"));
    const segments = this.segments.map((segment, at) => this.#changeOf(segment, at)).filter(Boolean);
    const renamed = Object.keys(speakers).length > 0;
    if (!segments.length && !renamed) return null;
    return { base: this.base.version, ...(segments.length && { segments }), ...(renamed && { speakers }) };
  }

  /** What is to be kept over a reload: plain data, no steps. Lines are named by their ids. */
  get draft() {
    const byId = (map) => [...map].map(([at, value]) => [this.segments[at].id, value]);
    return { version: this.base.version, texts: byId(this.#texts), own: byId(this.#own), names: [...this.#names] };
  }

  #take({ texts, own, names }) {
    const places = new Map(this.segments.map(({ id }, at) => [id, at]));
    for (const [id, text] of texts) if (places.has(id)) this.#texts.set(places.get(id), text);
    for (const [id, name] of own) if (places.has(id)) this.#own.set(places.get(id), name);
    for (const [voice, name] of names) if (this.#voices.has(voice)) this.#names.set(voice, name);
  }

  #nameOf(voice) {
    return this.#names.get(voice) ?? (typeof voice === "string" ? voice : null);
  }

  #changeOf({ id, text, speaker }, at) {
    const change = { id };
    const given = clean(this.text(at));
    if (this.#texts.has(at) && given !== text) change.text = given;
    const name = this.speaker(at);
    if (name !== null && name !== this.#nameOf(speaker ?? null)) change.speaker = name;
    return Object.keys(change).length > 1 ? change : null;
  }

  #do(step) {
    this.#apply(step, 2);
    this.#done.push(step);
    if (this.#done.length > STEPS) this.#done.shift();
    this.#undone = [];
  }

  #move(from, to, side) {
    const step = from.pop();
    if (!step) return null;
    this.#apply(step, side);
    to.push(step);
    return step;
  }

  /** `side` 1 is how it was before the step, 2 how it is after. */
  #apply({ texts = [], own = [], names = [] }, side) {
    for (const change of texts) put(this.#texts, change[0], change[side]);
    for (const change of own) put(this.#own, change[0], change[side]);
    for (const change of names) put(this.#names, change[0], change[side]);
  }
}
