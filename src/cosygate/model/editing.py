"""What a user corrects in a transcript: names of speakers, whose a segment is, what was said. Each time it is saved it
becomes a version beside those before; the recogniser's own is version 1 and stays as it is.

A version is kept as what differs from the one before it (`Changes`), and made anew from the recogniser's whenever it is
read.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cosygate import errors
from cosygate.model.retiming import retimed
from cosygate.model.transcript import Segment, Transcript, Word, join_texts

FIRST = 1  # the recogniser's
MOST_VERSIONS = 500  # of a transcript: reading one makes those before it
MOST_BYTES = 4 << 20  # of all its versions' changes together: five times the text of twelve hours
NAME_MAX = 64  # characters of a speaker's name
TEXT_MAX, TEXT_PER_S = 2_000, 100  # of a segment's text, whatever its length, and per second: nobody says so much
GROWTH_FREE = 10_000  # characters, beyond twice what was recognised, that a transcript may have in all
# General categories of Unicode (UAX #44): what no text may have, and what nobody sees.
_NOT_KEPT, _UNSEEN = frozenset({"Cc", "Cs"}), frozenset({"Cf", "Co", "Mn", "Me", "Zs"})
# Not to be seen, but part of how names are written: in Persian, in emoji, where scripts of two directions meet.
_JOINERS = frozenset("\u200c\u200d\u200e\u200f\u061c")


@dataclass(frozen=True, slots=True)
class Edit:
    """Of one segment. None: as it is."""

    id: int  # of the segment, in the version that was edited
    text: str | None = None  # "": the segment goes
    speaker: str | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """From a version to the one after it. First the names, then the segments; or (`restores`) all of an earlier one."""

    speakers: Mapping[str, str] = field(default_factory=dict)  # a speaker's name before → after; two to one: merged
    edits: tuple[Edit, ...] = ()
    restores: int | None = None  # the version whose state this is


@dataclass(frozen=True, slots=True)
class Version:
    number: int  # from FIRST, rising by one
    created_at: float  # seconds since the epoch
    by: str | None = None  # subject of who saved it; None: the recogniser
    restores: int | None = None


def changes_dict(changes: Changes) -> dict[str, Any]:
    """As it is kept."""
    edits = [
        {"id": e.id} | {name: told for name in ("text", "speaker") if (told := getattr(e, name)) is not None}
        for e in changes.edits
    ]
    return {"speakers": dict(changes.speakers), "edits": edits}


def changes_from_dict(data: dict[str, Any], restores: int | None) -> Changes:
    """The reverse of changes_dict."""
    return Changes(data["speakers"], tuple(Edit(**edit) for edit in data["edits"]), restores)


def revised(transcript: Transcript, changes: Changes) -> Transcript:
    """The version after `transcript`; `changes` restores nothing. Segments are numbered anew, so that ids rise by one.

    Raises Invalid for what names no segment or speaker, says something twice, or is no text that can be kept.
    """
    _check(transcript.segments, changes)
    return _told(transcript, _changed(transcript.segments, changes))


def check_size(first: Transcript, after: Transcript) -> None:
    """Raises TooLarge when a correction makes more of what was recognised (`first`) than a transcript of it can be:
    the cost of writing one is known by the recording."""
    most = 2 * len(first.text) + GROWTH_FREE
    if sum(len(segment.text) for segment in after.segments) > most:
        raise errors.TooLarge(f"this transcript has at most {most} characters", limit=most)


def replayed(first: Transcript, changes: Sequence[Changes]) -> Transcript:
    """The newest version: `first` is the recogniser's, `changes` are those of versions 2, 3, … in order. They were
    checked when they were saved."""
    state, chain = len(changes), []
    while state > 0:
        change = changes[state - 1]
        if change.restores is not None:
            state = change.restores - FIRST
        else:
            chain.append(change)
            state -= 1
    segments = first.segments
    for change in reversed(chain):
        segments = _changed(segments, change)
    return replace(_told(first, segments), version=len(changes) + FIRST)


def _told(transcript: Transcript, segments: tuple[Segment, ...]) -> Transcript:
    if segments is transcript.segments:
        return transcript
    return replace(transcript, segments=segments, text=join_texts(segment.text for segment in segments))


def _changed(segments: tuple[Segment, ...], changes: Changes) -> tuple[Segment, ...]:
    """What does not change is not made anew: of 500 versions of twelve hours each costs a look at its segments."""
    edits = {edit.id: edit for edit in changes.edits}
    found: list[Segment] = []
    for segment in segments:
        told = _renamed(segment, changes.speakers) if changes.speakers else segment
        if (edit := edits.get(segment.id)) is not None:
            told = _edited(told, edit)
            if not told.text:
                continue
        found.append(told if told.id == len(found) else replace(told, id=len(found)))
    return tuple(found)


def _check(segments: Sequence[Segment], changes: Changes) -> None:
    """Raises Invalid."""
    by_id = {segment.id: segment for segment in segments}
    ids = {edit.id for edit in changes.edits}
    if len(ids) < len(changes.edits):
        raise errors.Invalid("a segment is named twice")
    if unknown := ids - by_id.keys():
        raise errors.Invalid(f"this version has no segment {min(unknown)}")
    for edit in changes.edits:
        if edit.speaker is not None:
            _check_name(edit.speaker)
        if edit.text is not None:
            _check_text(edit.text, by_id[edit.id])
    if changes.speakers:
        known = {segment.speaker for segment in segments}
        known |= {word.speaker for segment in segments for word in segment.words}
        if not changes.speakers.keys() <= known:
            unknown_name = min(changes.speakers.keys() - known, key=str)
            raise errors.Invalid(f"this version has no speaker {unknown_name[:NAME_MAX]!r}")
        for name in changes.speakers.values():
            _check_name(name)


def _check_name(name: str) -> None:
    """Told in subtitles before what they say: something to be seen, on one line, that turns no writing around."""
    odd = any(_not_kept(char) or unicodedata.category(char) in ("Cf", "Co") for char in name if char not in _JOINERS)
    plain = name == " ".join(name.split()) and not odd
    if not (plain and len(name) <= NAME_MAX and _seen(name)):
        raise errors.Invalid(f"a speaker's name has 1 to {NAME_MAX} characters that can be seen")


def _check_text(text: str, segment: Segment) -> None:
    most = max(TEXT_MAX, round(TEXT_PER_S * (segment.end - segment.start)))
    if len(text) > most:
        raise errors.Invalid(f"the text of segment {segment.id} has at most {most} characters")
    if any(map(_not_kept, " ".join(text.split()))):
        raise errors.Invalid(f"the text of segment {segment.id} has control characters, or what is no character")


def _not_kept(char: str) -> bool:
    """Noncharacters, too (https://www.unicode.org/faq/private_use.html); but what is newer than our Unicode is kept."""
    code = ord(char)
    return unicodedata.category(char) in _NOT_KEPT or code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF


def _seen(text: str) -> bool:
    return any(unicodedata.category(char) not in _UNSEEN for char in text)


def _renamed(segment: Segment, names: Mapping[str, str]) -> Segment:
    def after(speaker: str | None) -> str | None:
        return names.get(speaker, speaker) if speaker is not None else None

    words = segment.words
    if any(word.speaker in names for word in words):
        words = tuple(replace(word, speaker=after(word.speaker)) for word in words)
    elif segment.speaker not in names:
        return segment
    return _one_voice(replace(segment, speaker=after(segment.speaker), words=words))


def _one_voice(segment: Segment) -> Segment:
    """Words tell their speaker where several speak in the segment: after a merge perhaps they do not any more."""
    if all(word.speaker in (None, segment.speaker) for word in segment.words):
        return replace(segment, words=_nobodys(segment.words))
    return segment


def _nobodys(words: tuple[Word, ...]) -> tuple[Word, ...]:
    return words if all(w.speaker is None for w in words) else tuple(replace(w, speaker=None) for w in words)


def _edited(segment: Segment, edit: Edit) -> Segment:
    if edit.speaker is not None:
        segment = replace(segment, speaker=edit.speaker, words=_nobodys(segment.words))
    if edit.text is None:
        return segment
    text = " ".join(edit.text.split())
    if text == segment.text:
        return segment
    if not _seen(text):
        return replace(segment, text="")
    # The recogniser was so sure of what it heard, not of this.
    return _one_voice(replace(segment, text=text, words=retimed(segment, text), confidence=None))
