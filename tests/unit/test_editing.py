"""Corrections of transcripts: what they change and what they leave; words keep their times; what cannot be kept is
refused."""

from __future__ import annotations

import json
import random
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosygate import errors
from cosygate.model.editing import Changes, Edit, changes_dict, changes_from_dict, check_size, replayed, revised
from cosygate.model.retiming import retimed
from cosygate.model.transcript import EngineName, Segment, Transcript, Word

ENGINE = EngineName("scripted", "m", "1")


def segment(number: int, text: str, *, speaker: str | None = None, timed: bool = True) -> Segment:
    """A second a word, from ten times `number` on."""
    tokens = text.split()
    words = tuple(Word(t, number * 10.0 + n, number * 10.0 + n + 0.8, 0.9) for n, t in enumerate(tokens))
    end = number * 10.0 + len(tokens)
    return Segment(number, number * 10.0, end, text, speaker, confidence=0.7, words=words if timed else ())


def transcript(*segments: Segment) -> Transcript:
    text = " ".join(s.text for s in segments)
    return Transcript("t", 60.0, "en", text, segments, ENGINE)


TALK = transcript(
    segment(0, "good morning everybody", speaker="S1"),
    segment(1, "hello there", speaker="S2"),
    segment(2, "shall we begin", speaker="S1"),
)


def test_a_speaker_gets_a_name_everywhere_and_two_become_one() -> None:
    words = zip(TALK.segments[0].words, ("S1", "S2", "S1"), strict=True)
    mixed = replace(TALK.segments[0], words=tuple(replace(word, speaker=speaker) for word, speaker in words))
    talk = replace(TALK, segments=(mixed, *TALK.segments[1:]))
    named = revised(talk, Changes({"S1": "Anna", "S2": "Ben"}))
    assert [s.speaker for s in named.segments] == ["Anna", "Ben", "Anna"]
    assert [w.speaker for w in named.segments[0].words] == ["Anna", "Ben", "Anna"]
    swapped = revised(named, Changes({"Anna": "Ben", "Ben": "Anna"}))
    assert [s.speaker for s in swapped.segments] == ["Ben", "Anna", "Ben"]
    merged = revised(named, Changes({"Ben": "Anna"}))
    assert [s.speaker for s in merged.segments] == ["Anna", "Anna", "Anna"]
    assert [w.speaker for w in merged.segments[0].words] == [None, None, None]  # nobody else speaks in it any more
    assert [w.start for w in merged.segments[0].words] == [0.0, 1.0, 2.0]


def test_a_text_is_corrected_and_words_that_are_still_there_keep_their_times() -> None:
    after = revised(TALK, Changes(edits=(Edit(0, text="Good  evening, dear everybody!"),)))
    first = after.segments[0]
    assert first.text == "Good evening, dear everybody!" and first.confidence is None
    assert after.text == "Good evening, dear everybody! hello there shall we begin"
    assert [(w.text, w.confidence) for w in first.words] == [
        ("Good", 0.9), ("evening,", None), ("dear", None), ("everybody!", 0.9),
    ]  # fmt: skip
    assert (first.words[0].start, first.words[3].start) == (0.0, 2.0)
    assert first.words[1].start == 1.0 and first.words[2].end == 1.8  # in the time of "morning"
    assert after.segments[1:] == TALK.segments[1:]
    assert TALK.segments[0].text == "good morning everybody"


def test_what_is_emptied_goes_and_the_rest_is_numbered_anew() -> None:
    after = revised(TALK, Changes(edits=(Edit(1, text=" \u200b"), Edit(2, speaker="Carla"))))
    assert [(s.id, s.text, s.speaker) for s in after.segments] == [
        (0, "good morning everybody", "S1"), (1, "shall we begin", "Carla"),
    ]  # fmt: skip
    nothing = revised(after, Changes(edits=(Edit(0, text=""), Edit(1, text=""))))
    assert (nothing.segments, nothing.text) == ((), "")


def test_a_segment_given_to_somebody_is_all_theirs() -> None:
    mixed = replace(TALK.segments[0], words=tuple(replace(w, speaker="S2") for w in TALK.segments[0].words))
    after = revised(replace(TALK, segments=(mixed,)), Changes({"S1": "Anna"}, (Edit(0, speaker="Ben"),)))
    assert after.segments[0].speaker == "Ben" and {w.speaker for w in after.segments[0].words} == {None}


@pytest.mark.parametrize(
    "changes",
    [
        Changes({"S9": "Anna"}),
        Changes({"S1": ""}),
        Changes({"S1": " Anna"}),
        Changes({"S1": "A" * 65}),
        Changes({"S1": "A\u0000"}),
        Changes({"S1": "\u200b"}),
        Changes({"S1": "\u202egnikliv"}),
        Changes({"S1": "\U0010ffff"}),
        Changes(edits=(Edit(3, text="x"),)),
        Changes(edits=(Edit(1, text="x"), Edit(1, text="y"))),
        Changes(edits=(Edit(1, text="x" * 2_001),)),
        Changes(edits=(Edit(1, text="a\uffffb"),)),
        Changes(edits=(Edit(1, text="a\u0000b"),)),
        Changes(edits=(Edit(1, text="a\ud800b"),)),
        Changes(edits=(Edit(1, speaker="\n"),)),
    ],
)
def test_what_cannot_be_kept_is_refused(changes: Changes) -> None:
    with pytest.raises(errors.Invalid):
        revised(TALK, changes)


def test_names_are_written_as_people_write_them() -> None:
    for name in (
        "安娜",
        "Ångström-O’Neill 2",
        "می‌ر",
        "\u200fדנה",
        "👩‍💻",
        "🫨",
        "\U00031350",
        "José",
        "Dr. (Anna)",
        "ق",
    ):
        assert revised(TALK, Changes({"S1": name})).segments[0].speaker == name


def test_a_transcript_does_not_become_much_more_than_was_heard() -> None:
    """What one costs to write is known by its recording."""
    talk = transcript(*(segment(n, "a b c d") for n in range(20)))
    grown = revised(talk, Changes(edits=tuple(Edit(n, text="x" * 1_000) for n in range(10))))
    check_size(talk, grown)
    more = revised(grown, Changes(edits=(Edit(10, text="x" * 2_000),)))
    with pytest.raises(errors.TooLarge):
        check_size(talk, more)
    long = transcript(segment(0, " ".join("abcdefgh" for _ in range(100))))
    check_size(long, revised(long, Changes(edits=(Edit(0, text="y" * 10_000),))))  # a hundred seconds


def test_versions_are_made_anew_from_their_changes() -> None:
    story = [
        Changes({"S1": "Anna"}),
        Changes(edits=(Edit(0, text=""),)),
        Changes(edits=(Edit(0, text="Hello, you"),)),  # of version 3: what had been segment 1
        Changes(restores=2),
        Changes({"Anna": "Annabel"}),
        Changes(restores=1),
    ]
    kept = [changes_from_dict(json.loads(json.dumps(changes_dict(c))), c.restores) for c in story]
    assert kept == story
    assert replayed(TALK, []) == TALK
    names = [[s.speaker for s in replayed(TALK, kept[:n]).segments] for n in range(7)]
    assert names[1] == names[4] == ["Anna", "S2", "Anna"] and names[5] == ["Annabel", "S2", "Annabel"]
    assert [s.text for s in replayed(TALK, kept[:3]).segments] == ["Hello, you", "shall we begin"]
    assert replayed(TALK, kept) == replace(TALK, version=7)
    assert [replayed(TALK, kept[:n]).version for n in range(7)] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("had", "text", "starts"),
    [
        ("a b c", "a b c", {"a": 0.0, "b": 1.0, "c": 2.0}),
        ("a b c", "a c", {"a": 0.0, "c": 2.0}),
        ("a b c", "x a b c", {"x": 0.0, "a": 0.0, "c": 2.0}),
        ("a b c", "a b c d", {"c": 2.0, "d": 2.8}),
        ("a b c d e", "x b y d z", {"b": 1.0, "d": 3.0, "x": 0.0, "y": 2.0, "z": 4.0}),
        ("hello – there", "hello there", {"hello": 0.0, "there": 2.0}),
        ("你好 世 界", "你好,新世界。", {"你好,": 0.0, "新": 0.8, "世": 1.0, "界。": 2.0}),
    ],
)
def test_times_of_words(had: str, text: str, starts: dict[str, float]) -> None:
    words = {w.text: w.start for w in retimed(segment(0, had), text)}
    assert {t: words.get(t) for t in starts} == pytest.approx(starts)


def test_a_segment_without_words_gets_none() -> None:
    assert retimed(segment(0, "a b", timed=False), "c d") == ()


@given(
    st.lists(st.sampled_from(["a", "b", "don't", "–", "你", "好吗", "25"]), min_size=1, max_size=30),
    st.text(st.sampled_from("ab d好你吗25-–'\u0301,. "), max_size=80),
)
def test_words_are_in_order_and_inside_their_segment(had: list[str], text: str) -> None:
    before = segment(0, " ".join(had))
    at = before.start
    for word in retimed(before, text):
        assert at <= word.start <= word.end <= before.end
        assert any(map(str.isalnum, word.text)) or word.text in had
        at = word.start


def test_far_apart_corrections_leave_what_is_between_them() -> None:
    had = [f"w{n % 97}" if n % 3 else "the" for n in range(300)]
    text = [*had[:2], "X", *had[3:296], "Y", *had[297:]]
    before = segment(0, " ".join(had))
    after = retimed(before, " ".join(text))
    assert [w.text for w in after] == text
    assert [w.start for w in after] == [w.start for w in before.words]
    assert [n for n, w in enumerate(after) if w.confidence is None] == [2, 296]


def test_signs_that_the_engine_told_as_words_stay_words() -> None:
    before = segment(0, "Tom & Jerry pay 5 %")
    assert [(w.text, w.start) for w in retimed(before, "Tom & Jerry paid 5 %")] == [
        ("Tom", 0), ("&", 1), ("Jerry", 2), ("paid", 3), ("5", 4), ("%", 5),
    ]  # fmt: skip


@pytest.mark.parametrize("kinds", [2, 3, 10, 1_000])
def test_a_hostile_text_takes_no_time(kinds: int) -> None:
    """Words that are compared grow with the text, and no faster."""
    chance = random.Random(kinds)
    had, text = (" ".join(f"a{chance.randrange(kinds)}" for _ in range(5_000)) for _ in range(2))
    before = segment(0, had)
    started = time.process_time()
    assert len(retimed(before, text)) == 5_000
    assert time.process_time() - started < 1.0


def test_500_versions_of_twelve_hours_are_made_in_seconds() -> None:
    talk = transcript(*(segment(n, "one two three four five six", speaker=f"S{n % 4}") for n in range(10_000)))
    names = [{f"name {n - 50}" if n >= 50 else "S0": f"name {n}"} if n % 50 == 0 else {} for n in range(499)]
    story = [Changes(names[n], (Edit(n, text="one two three, changed"),)) for n in range(499)]
    started = time.process_time()
    assert replayed(talk, story).segments[0].text == "one two three, changed"
    assert time.process_time() - started < 10.0
