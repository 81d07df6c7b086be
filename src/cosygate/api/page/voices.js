// Who speaks: a colour for everybody, the shares of speech, and which words of a line are whose.

import { voiceOf } from "/page/edits.js";

export const VOICES = 6; // colours in the style sheet

/** What a voice (a name, or a channel's number) is called. */
export const calledVoice = (voice) => (typeof voice === "number" ? `Channel ${voice + 1}` : voice);

/** The colours, given in the order of appearance. */
export class Voices {
  #numbers = new Map();
  #next = 0;

  /** The number of a segment's colour, or -1 when nobody knows whose it is. */
  of(segment) {
    const voice = voiceOf(segment);
    return voice === null ? -1 : this.number(voice);
  }

  /** The same of a name or a channel's number. */
  number(voice) {
    if (!this.#numbers.has(voice)) this.#numbers.set(voice, this.#next++ % VOICES);
    return this.#numbers.get(voice);
  }

  /** Somebody has a new name, and keeps the colour. */
  rename(from, to) {
    if (!this.#numbers.has(to) && this.#numbers.has(from)) this.#numbers.set(to, this.#numbers.get(from));
  }

  clear() {
    this.#numbers.clear();
    this.#next = 0;
  }
}

/** Each voice with its share of the time in which somebody speaks, from 0 to 1, in the order of appearance. */
export function shares(segments) {
  const seconds = new Map();
  for (const segment of segments) {
    const voice = voiceOf(segment);
    if (voice !== null) seconds.set(voice, (seconds.get(voice) ?? 0) + segment.end - segment.start);
  }
  const all = [...seconds.values()].reduce((sum, one) => sum + one, 0);
  return [...seconds].map(([voice, one]) => ({ voice, share: all ? one / all : 0 }));
}

/** A segment's text in parts [{text, speaker}], where its words have several speakers; else null. */
export function partsOf({ text, words = [] }) {
  if (new Set(words.map(({ speaker }) => speaker)).size < 2) return null;
  const parts = [];
  let at = 0;
  for (const word of words) {
    const from = text.indexOf(word.text, at);
    if (from < 0) return null; // the text is written otherwise: better plain than wrong
    if (parts.at(-1)?.speaker !== word.speaker) {
      if (parts.length) parts.at(-1).text = text.slice(parts.at(-1).from, from);
      parts.push({ speaker: word.speaker, from: parts.length ? from : 0 });
    }
    at = from + word.text.length;
  }
  parts.at(-1).text = text.slice(parts.at(-1).from);
  return parts.map(({ text: said, speaker }) => ({ text: said, speaker }));
}
