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
MOST_BYTES = 8 << 20  # of all its versions' changes together
NAME_MAX, TEXT_MAX = 64, 10_000  # characters of a speaker's name, of a segment's text


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
    _check_names(transcript, changes.speakers)
    edits = {edit.id: edit for edit in changes.edits}
    if len(edits) < len(changes.edits):
        raise errors.Invalid("a segment is named twice")
    segments: list[Segment] = []
    for segment in transcript.segments:
        told = _renamed(segment, changes.speakers) if changes.speakers else segment
        edit = edits.pop(segment.id, None)
        if edit is not None:
            told = _edited(told, edit)
            if not told.text:
                continue
        segments.append(told)
    if edits:
        raise errors.Invalid(f"this version has no segment {min(edits)}")
    numbered = tuple(replace(segment, id=number) for number, segment in enumerate(segments))
    return replace(transcript, segments=numbered, text=join_texts(s.text for s in numbered))


def replayed(first: Transcript, changes: Sequence[Changes]) -> Transcript:
    """The newest version: `first` is the recogniser's, `changes` are those of versions 2, 3, … in order."""
    state, chain = len(changes), []
    while state > 0:
        change = changes[state - 1]
        if change.restores is not None:
            state = change.restores - FIRST
        else:
            chain.append(change)
            state -= 1
    transcript = first
    for change in reversed(chain):
        transcript = revised(transcript, change)
    return replace(transcript, version=len(changes) + FIRST)


def _check_names(transcript: Transcript, names: Mapping[str, str]) -> None:
    if not names:
        return
    known = {segment.speaker for segment in transcript.segments}
    known |= {word.speaker for segment in transcript.segments for word in segment.words}
    if not names.keys() <= known:
        raise errors.Invalid("this version has no such speaker")
    for name in names.values():
        _check_name(name)


def _check_name(name: str) -> None:
    if not name or name != " ".join(name.split()) or len(name) > NAME_MAX or not _can_be_kept(name):
        raise errors.Invalid(f"a speaker's name has 1 to {NAME_MAX} characters, and no space around it")


def _can_be_kept(text: str) -> bool:
    """No control characters, no halves of surrogate pairs: databases and subtitle files take neither."""
    return text.isprintable() or not any(unicodedata.category(char) in ("Cc", "Cs") for char in text)


def _renamed(segment: Segment, names: Mapping[str, str]) -> Segment:
    def after(speaker: str | None) -> str | None:
        return names.get(speaker, speaker) if speaker is not None else None

    words = tuple(replace(w, speaker=after(w.speaker)) for w in segment.words)
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
        _check_name(edit.speaker)
        segment = replace(segment, speaker=edit.speaker, words=_nobodys(segment.words))
    if edit.text is None:
        return segment
    text = " ".join(edit.text.split())
    if len(text) > TEXT_MAX or not _can_be_kept(text):
        raise errors.Invalid(f"a segment's text has at most {TEXT_MAX} characters, none of them a control character")
    if text == segment.text:
        return segment
    # The recogniser was so sure of what it heard, not of this.
    return _one_voice(replace(segment, text=text, words=retimed(segment, text), confidence=None))
