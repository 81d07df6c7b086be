"""The pure rules: names, options, listings, formats (subtitles: test_subtitles*.py), errors."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosygate import errors
from cosygate.kit.backoff import Backoff
from cosygate.kit.clock import time_ordered_id
from cosygate.model.audio import RawFormat
from cosygate.model.formats import Format, write
from cosygate.model.job import TERMINAL, TRANSITIONS
from cosygate.model.options import Channels, Priority, TranscribeOptions, parse_options
from cosygate.model.transcript import (
    EngineName,
    Segment,
    Transcript,
    Word,
    join_texts,
    transcript_dict,
    transcript_from_dict,
)
from cosygate.model.upload import LastMark, Listing, UploadLimits, check_seq, check_session_id
from tests.support.clock import MovedClock, SeededRandomness


@given(st.text(max_size=140))
def test_session_ids(text: str) -> None:
    good = re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}", text) is not None
    if good:
        assert check_session_id(text) == text
    else:
        with pytest.raises(errors.SessionIdInvalid):
            check_session_id(text)


@given(st.sets(st.integers(0, 400), max_size=300), st.one_of(st.none(), st.integers(0, 400)))
def test_what_is_missing(seqs: set[int], last: int | None) -> None:
    seqs = {s for s in seqs if last is None or s <= last}
    listing = Listing(dict.fromkeys(seqs, 7), LastMark(last, "{}") if last is not None else None)
    top = last if last is not None else max(seqs, default=-1)
    gaps = [n for n in range(top + 1) if n not in seqs]
    assert listing.missing() == (gaps[:100], len(gaps))
    assert listing.complete == (last is not None and not gaps)
    assert listing.total_bytes == 7 * len(seqs)


def test_seqs() -> None:
    limits = UploadLimits(parts=10)
    assert [check_seq(text, limits) for text in ("0", "9", "007")] == [0, 9, 7]
    for text in ("", "-1", "+1", "1e3", " 1", "٣", "1" * 50):
        with pytest.raises(errors.SeqInvalid):
            check_seq(text, limits)
    with pytest.raises(errors.TooManyParts):
        check_seq("10", limits)


def test_options_survive_their_storage() -> None:
    fields = {"language": "en-GB", "channels": "split", "priority": "low", "filename": "C:\\calls\\a\x00b.wav",
              "audio_format": "s16le; rate=8000; channels=2"}  # fmt: skip
    options = parse_options(fields)
    assert options == TranscribeOptions(
        language="en-GB", channels=Channels.SPLIT, priority=Priority.LOW, filename="ab.wav",
        audio_format=RawFormat(8000, 2),
    )  # fmt: skip
    assert TranscribeOptions.from_json(options.to_json()) == options
    assert TranscribeOptions.from_json(TranscribeOptions().to_json()) == TranscribeOptions()


TRANSCRIPT = Transcript(
    task_id="t",
    duration=3661.5,
    language="en",
    text="Tom & <Ann> --> say hi.",
    segments=(
        Segment(0, 0.0, 1.2345, "Tom & <Ann>\n\n--> say", speaker="A", words=(Word("Tom", 0.0, 0.4, 0.9),)),
        Segment(1, 3599.9996, 3661.5, "hi.\there", events=("laughter",)),
    ),
    engine=EngineName("e", "m", "1"),
    timings={"total": 0.12345},
)


def test_tsv_and_txt() -> None:
    assert write(TRANSCRIPT, Format.TSV) == (
        "start\tend\tspeaker\ttext\n0\t1234\tA\tTom & <Ann> --> say\n3600000\t3661500\t\thi. here\n"
    )
    unknown = replace(TRANSCRIPT, segments=tuple(replace(s, speaker=None) for s in TRANSCRIPT.segments))
    assert write(unknown, Format.TXT) == "Tom & <Ann> --> say hi.\n"


def test_txt_says_who_speaks_where_that_is_known() -> None:
    assert write(TRANSCRIPT, Format.TXT) == "A: Tom & <Ann> --> say\nhi. here\n"
    words = tuple(Word(text, n, n + 1, speaker=who) for n, (text, who) in enumerate(zip("abcd", "XYYX", strict=True)))
    segments = (
        Segment(0, 0.0, 4.0, "a b c d", "X", words=words),
        Segment(1, 4.0, 5.0, "e", "X"),
        Segment(2, 5.0, 6.0, "f", "Y"),
        Segment(3, 6.0, 7.0, "你好。", "Y"),
        Segment(4, 7.0, 8.0, "再见。", "Y"),
    )
    told = write(replace(TRANSCRIPT, segments=segments), Format.TXT)
    assert told == "X: a\nY: b c\nX: d e\nY: f 你好。再见。\n"


def test_json_tells_only_what_is_known() -> None:
    told = transcript_dict(TRANSCRIPT)
    assert told["segments"][1] == {
        "id": 1,
        "start": 3600.0,
        "end": 3661.5,
        "text": "hi.\there",
        "events": ("laughter",),
    }
    assert told["segments"][0]["words"] == ({"text": "Tom", "start": 0.0, "end": 0.4, "confidence": 0.9},)
    again = transcript_from_dict(told)
    assert transcript_dict(again) == told


def test_an_empty_transcript_in_every_format() -> None:
    empty = Transcript("t", 0.0, None, "", (), EngineName("e", "m", "1"))
    assert [write(empty, f) for f in (Format.TXT, Format.SRT, Format.VTT, Format.TSV)] == [
        "", "", "WEBVTT\n", "start\tend\ttext\n",
    ]  # fmt: skip


def test_texts_join_as_their_language_does() -> None:
    assert join_texts(["Hello.", " there ", ""]) == "Hello. there"
    assert join_texts(["欢迎大家。", "来体验"]) == "欢迎大家。来体验"
    assert join_texts(["欢迎", "hello"]) == "欢迎 hello"


def test_every_error_has_its_own_code_and_every_terminal_state_is_final() -> None:
    codes = [cls.code for cls in errors.all_errors()]
    assert len(codes) == len(set(codes))
    assert all(re.fullmatch(r"[a-z][a-z_]+", code) for code in codes)
    assert all(not TRANSITIONS[state] for state in TERMINAL)


def test_ids_sort_by_time_and_differ() -> None:
    clock, randomness = MovedClock(), SeededRandomness()
    made = []
    for _ in range(100):
        made.append(time_ordered_id(clock, randomness))
        clock.wall += 0.002
    assert made == sorted(made)
    assert len(set(made)) == 100
    assert all(re.fullmatch(r"[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}", i) for i in made)


@given(st.integers(0, 10_000), st.integers(0, 1000))
def test_backoff_is_bounded(attempt: int, seed: int) -> None:
    backoff = Backoff(first_s=0.2, longest_s=30.0)
    ceiling = min(30.0, 0.2 * 2.0 ** min(attempt, 63))
    assert ceiling / 10 <= backoff.delay(attempt, SeededRandomness(seed)) <= ceiling
