// Somebody else saved first: puts one's own changes on top of theirs. Pure data, as edits.js.
//
// A line is found again by its place in the recording, for ids may have moved. What both have changed is a clash, and
// whoever asks decides; nothing of one's own is dropped unseen.

import { clean, Edits, voiceOf } from "/page/edits.js";

const placeOf = ({ start, end, channel }) => `${start} ${end} ${channel ?? ""}`;

/** Of each speaker or channel of `before`: what most of its lines are called in `after`. */
function moved(before, after, find) {
  const counts = new Map();
  before.forEach((segment) => {
    const voice = voiceOf(segment);
    const there = after[find(segment)];
    if (voice === null || !there) return;
    if (!counts.has(voice)) counts.set(voice, new Map());
    const called = counts.get(voice);
    called.set(voiceOf(there), (called.get(voiceOf(there)) ?? 0) + 1);
  });
  return new Map([...counts].map(([voice, called]) => [voice, [...called].sort((a, b) => b[1] - a[1])[0][0]]));
}

/** `edits` on the transcript `theirs`: {clashes, make(mine)}. `make(true)` gives Edits with one's own side of each clash,
 * `make(false)` with theirs. A clash is {start (seconds, or null for a name), mine, theirs (null: it is gone)}. */
export function reapply(edits, theirs) {
  const places = new Map(theirs.segments.map((segment, at) => [placeOf(segment), at]));
  const find = (segment) => places.get(placeOf(segment));
  const calls = moved(edits.segments, theirs.segments, find);
  const byId = new Map(edits.segments.map((segment) => [segment.id, segment]));
  const agreed = { texts: [], own: [], names: [] };
  const disputed = { texts: [], own: [], names: [] };
  const clashes = [];
  const { texts, own, names } = edits.draft;

  for (const [id, text] of texts) {
    const segment = byId.get(id);
    const there = theirs.segments[find(segment)];
    const mine = clean(text);
    if (there ? there.text === mine : !mine) continue; // both have done the same
    if (there?.text === segment.text) {
      agreed.texts.push([there.id, text]);
    } else {
      clashes.push({ start: segment.start, mine, theirs: there?.text ?? null });
      if (there) disputed.texts.push([there.id, text]);
    }
  }
  for (const [voice, name] of names) {
    const called = calls.get(voice) ?? voice;
    if (called === name) continue;
    if (called === voice) {
      agreed.names.push([voice, name]);
    } else {
      clashes.push({ start: null, mine: name, theirs: called });
      disputed.names.push([called, name]);
    }
  }
  const known = new Set(theirs.segments.map(voiceOf));
  for (const [id, given] of own) {
    const segment = byId.get(id);
    const there = theirs.segments[find(segment)];
    const name = known.has(given) ? given : calls.get(given) ?? given; // they may call that speaker something else now
    if (there && voiceOf(there) === name) continue;
    const before = voiceOf(segment);
    if (there && voiceOf(there) === (calls.get(before) ?? before)) {
      agreed.own.push([there.id, name]);
    } else {
      clashes.push({ start: segment.start, mine: String(name), theirs: there ? there.speaker ?? "" : null });
      if (there) disputed.own.push([there.id, name]);
    }
  }
  const make = (mine) => new Edits(theirs, !mine ? agreed
    : Object.fromEntries(Object.keys(agreed).map((kind) => [kind, [...agreed[kind], ...disputed[kind]]])));
  return { clashes, make };
}
