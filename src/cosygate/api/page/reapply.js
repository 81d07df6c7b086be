// Somebody else saved first: puts one's own changes on top of theirs. Pure data, as edits.js.
//
// A line is found again by its place in the recording, for ids may have moved. What both have changed is a clash, and
// whoever asks decides; nothing of one's own is dropped unseen. A new name is a change of the lines that it names: it
// goes where they still have the old one. Two speakers whom neither side made one never become one unseen.

import { clean, Edits, voiceOf } from "/page/edits.js";
import { calledVoice } from "/page/voices.js";

const placeOf = ({ start, end, channel }) => `${start} ${end} ${channel ?? ""}`;

function put(map, key, value) {
  if (!map.has(key)) map.set(key, new Set());
  map.get(key).add(value);
}

/** Everybody in a transcript, those of words too. */
const everybody = ({ segments }) => new Set(segments.flatMap((segment) =>
  [voiceOf(segment), ...(segment.words ?? []).map(({ speaker }) => speaker ?? null)]));

/** Whom they have given a new name: speaker or channel of the base → that name. Only where all of its lines have it,
 * nobody had it before, and nobody else has it now. `pairs`: lines as [before, after]. */
function renamed(pairs, before) {
  const [called, were] = [new Map(), new Map()];
  for (const [segment, there] of pairs) {
    put(called, voiceOf(segment), voiceOf(there));
    put(were, voiceOf(there), voiceOf(segment));
  }
  return new Map([...called].map(([voice, names]) => [voice, [...names][0]])
    .filter(([voice, name]) => voice !== null && called.get(voice).size === 1 && were.get(name).size === 1
      && !before.has(name)));
}

/** `edits` on the transcript `theirs`: {clashes, make(mine)}. `make(true)` gives Edits with one's own side of each clash,
 * `make(false)` with theirs. A clash is {start (seconds, or null for a name), mine, theirs (null: it is gone)}; with
 * `taken`, they call somebody else so. */
export function reapply(edits, theirs) {
  const places = new Map(theirs.segments.map((segment, at) => [placeOf(segment), at]));
  const find = (segment) => theirs.segments[places.get(placeOf(segment))];
  const lines = edits.segments.map((segment, at) => ({ segment, there: find(segment), at }));
  const byId = new Map(lines.map((line) => [line.segment.id, line]));
  const [before, now] = [everybody(edits.base), everybody(theirs)];
  const moved = renamed(lines.filter(({ there }) => there).map(({ segment, there }) => [segment, there]), before);
  const told = ({ there, at }) => clean(there?.text ?? "") === clean(edits.text(at))
    && (!there || voiceOf(there) === edits.voice(at));
  const { texts, own, names } = edits.draft;
  // All of it is there: it was saved, and the answer was lost. Those who speak in words only are looked at below.
  if (lines.every(told) && names.every(([voice]) => lines.some(({ segment }) => voiceOf(segment) === voice))) {
    return { clashes: [], make: () => new Edits(theirs) };
  }
  const mineOf = new Map(); // each of their speakers → what I call the lines
  for (const { there, at } of lines) if (there) put(mineOf, voiceOf(there), edits.voice(at));
  const given = new Set(own.map(([id]) => id));
  const [agreed, disputed] = [0, 1].map(() => ({ texts: [], own: [], names: [] }));
  const clashes = [];

  for (const [id, text] of texts) {
    const { segment, there } = byId.get(id);
    const mine = clean(text);
    if (there ? there.text === mine : !mine) continue; // both have done the same
    if (there?.text === segment.text) {
      agreed.texts.push([there.id, text]);
    } else {
      clashes.push({ start: segment.start, mine, theirs: there?.text ?? null });
      if (there) disputed.texts.push([there.id, text]);
    }
  }

  const mineNames = new Map(names);
  /** Who is meant by a name of mine: somebody whom they alone have renamed has their name. */
  const person = (name) => (mineNames.has(name) ? name : moved.get(name) ?? name);
  const kept = new Map(); // the names of mine that go on theirs as they are
  const finally_ = (voice) => kept.get(voice) ?? voice;
  /** Whether they call somebody so whom I do not. `voice` is who is to have the name. */
  const taken = (name, mine, voice) => [...now].some((other) => other !== voice && finally_(other) === name
    && !(mineOf.get(other)?.has(mine) ?? before.has(other)));
  const nameClash = (mine, called, isTaken) => {
    clashes.push({ start: null, mine, theirs: called, ...(isTaken && { taken: true }) });
  };
  /** Whether they have given somebody lines that were another's. */
  const strangers = (voice) => lines.some(({ segment, there }) => there && voiceOf(there) === voice
    && voiceOf(segment) !== voice);

  const split = []; // names of mine whose lines they have changed
  for (const [voice, name] of names) {
    const open = lines.filter(({ segment, at }) => voiceOf(segment) === voice && !given.has(segment.id)
      && clean(edits.text(at)));
    const there = open.filter((line) => line.there);
    if (moved.has(voice)) {
      const called = moved.get(voice);
      if (called === name) continue;
      disputed.names.push([called, name]);
      nameClash(name, called, taken(name, name, called));
    } else if (now.has(voice)
      && (there.length ? there.some((line) => voiceOf(line.there) === voice) : !strangers(voice))) {
      kept.set(voice, person(name));
      split.push([voice, name, there]);
    } else if (!there.length && now.has(voice)) {
      disputed.names.push([voice, name]);
      nameClash(name, calledVoice(voice), taken(name, name, voice));
    } else if (there.length) {
      split.push([voice, name, there]);
    } else if ((open.length || !lines.some(({ segment }) => voiceOf(segment) === voice)) && !now.has(name)) {
      nameClash(name, null, false);
    }
  }
  for (let checked = 0; checked !== kept.size;) { // one that does not go may free a name, or take it
    checked = kept.size;
    for (const [voice, name] of [...kept]) {
      if (!taken(name, mineNames.get(voice), voice)) continue;
      kept.delete(voice);
      disputed.names.push([voice, name]);
      nameClash(name, calledVoice(voice), true);
    }
  }
  agreed.names.push(...kept);

  /** One line that is to be somebody's: `same` says whether they have left it as it was. */
  const giveLine = ({ segment, there }, mine, same) => {
    const name = person(mine);
    const called = there && voiceOf(there);
    const isTaken = Boolean(there) && taken(name, mine, called);
    const agree = Boolean(there) && finally_(called) === name && (called === name || !isTaken);
    if (agree && !disputed.names.some(([voice]) => voice === called)) return;
    if ((same || agree) && !isTaken) return void agreed.own.push([there.id, name]);
    clashes.push({ start: segment.start, mine: name, theirs: there ? calledVoice(finally_(called)) ?? "" : null,
      ...(isTaken && { taken: true }) });
    if (there) disputed.own.push([there.id, name]);
  };
  for (const [voice, name, there] of split) {
    for (const line of there) if (voiceOf(line.there) !== voice) giveLine(line, name, false);
  }
  const [once, several] = [new Set(), new Set()]; // who has one line, and more
  for (const { segment } of lines) (once.has(voiceOf(segment)) ? several : once).add(voiceOf(segment));
  for (const [id, name] of own) {
    const line = byId.get(id);
    if (!line.there && !clean(edits.text(line.at))) continue; // both have taken it away
    const was = voiceOf(line.segment);
    const called = line.there && voiceOf(line.there);
    // A name that is all over a speaker's lines says nothing about one of them; about the only one it does.
    giveLine(line, name, Boolean(line.there) && (called === was || (several.has(was) && called === moved.get(was))));
  }

  const make = (mine) => {
    if (mine) {
      const kinds = Object.keys(agreed).map((kind) => [kind, [...agreed[kind], ...disputed[kind]]]);
      return new Edits(theirs, Object.fromEntries(kinds));
    }
    // Whom I have renamed has their name after all: in the lines that I have given them, too.
    const back = new Map(names.filter(([voice]) => moved.has(voice)).map(([voice, name]) => [name, moved.get(voice)]));
    const theirName = ([key, name]) => [key, back.get(name) ?? name];
    return new Edits(theirs, { texts: agreed.texts, own: agreed.own.map(theirName), names: agreed.names.map(theirName) });
  };
  return { clashes, make };
}
