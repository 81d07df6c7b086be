"""Subtitles: how text is cut into cues and lines, and when they are on the screen."""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosygate.model.subtitles import cues, srt
from cosygate.model.subtitles.script import (
    ALPHABETIC,
    CHINESE,
    ENGLISH,
    JAPANESE,
    KOREAN,
    Reading,
    clean,
    pieces,
    reading,
    width,
)  # fmt: skip
from cosygate.model.subtitles.timing import DASH, Cue
from cosygate.model.transcript import Segment, Transcript, Word
from tests.support.transcripts import spoken, transcript, transcripts

GAP = 84  # milliseconds: two frames


def texts(found: Iterable[Cue]) -> list[str]:
    return ["\n".join(line.text for line in cue.lines) for cue in found]


def times(found: Iterable[Cue]) -> list[tuple[int, int]]:
    return [(cue.start, cue.end) for cue in found]


def letters(texts: Iterable[str]) -> str:
    return "".join("".join(texts).split())


def check(found: list[Cue], limits: Reading) -> None:
    """What holds for every transcript, however absurd. `limits`: the widest of its segments'."""
    for cue in found:
        assert 1000 <= cue.end - cue.start <= 7000
        assert cue.start >= round(cue.lines[0].atoms[0].start * 1000)
        assert 1 <= len(cue.lines) <= 2
        for n, line in enumerate(cue.lines):
            before = (line.label or DASH) if cue.dialogue else line.label * (n == 0)
            assert width(before + line.text, limits.wide) <= limits.columns
            assert {atom.speaker for atom in line.atoms} == {line.speaker}
    assert all(after.start - cue.end >= GAP for cue, after in pairwise(found))


@given(transcripts(), st.booleans())
def test_every_word_is_shown_once_and_in_order_within_the_limits(told: Transcript, named: bool) -> None:
    found = cues(told, named)
    check(found, ENGLISH)
    assert letters(texts(found)) == letters(clean(s.text) for s in told.segments)


@given(transcripts(overlapping=True), st.booleans())
def test_where_segments_overlap_cues_do_not(told: Transcript, named: bool) -> None:
    found = cues(told, named)
    check(found, ENGLISH)
    assert sorted(letters(texts(found))) == sorted(letters(clean(s.text) for s in told.segments))
    assert [cue.start for cue in found] == sorted(cue.start for cue in found)


CJK = st.lists(
    st.tuples(
        st.sampled_from(["", "", "「", "（"]),
        st.text(alphabet="今天的会议改到星期五下午三点东京へ行きましたコンピュタ", min_size=1, max_size=6),
        st.sampled_from(["", "っ", "ー", "ゃ", "、", "。」", "）", "？」"]),
    ).map("".join),
    min_size=1,
    max_size=40,
).map("".join)


@given(CJK, st.sampled_from(["zh", "ja"]), st.booleans())
def test_full_width_lines_never_begin_or_end_where_kinsoku_forbids(text: str, language: str, named: bool) -> None:
    segment = Segment(0, 0.0, len(text) / 5, text, speaker="王先生")
    found = cues(transcript(segment, language=language), named)
    check(found, CHINESE)
    lines = "\n".join(texts(found)).split("\n")
    assert "".join(lines) == text
    assert not [line for line in lines if line[0] in "っーゃ、。」）？" or line[-1] in "「（"]


SPEECH = (
    "And so, my fellow Americans, ask not what your country can do for you, ask what you can do for your country. The "
    "meeting on Friday was moved to the large room on the second floor because the heating in the small one has been "
    "broken since last week. Mr. Smith will tell us about the new house of Mary Jones."
)


def test_english() -> None:
    assert texts(cues(transcript(spoken(SPEECH, 0.3, 24.0)))) == [
        "And so, my fellow Americans,",
        "ask not what your country can do for you,\nask what you can do for your country.",
        "The meeting on Friday was moved\nto the large room on the second floor",
        "because the heating in the small one\nhas been broken since last week.",
        "Mr. Smith will tell us\nabout the new house of Mary Jones.",
    ]


@pytest.mark.parametrize(
    ("language", "text", "wanted"),
    [
        ("zh", "今天的会议改到星期五下午三点，因为大家都很忙，没有时间准备材料。请各位提前十分钟到会议室。",
         ["今天的会议改到星期五下午三点，", "因为大家都很忙，\n没有时间准备材料。", "请各位提前十分钟到会议室。"]),
        ("ja", "これからコンピューターの新しい使い方について説明したいと思います。",
         ["これからコンピューターの", "新しい使い方について\n説明したいと思います。"]),
        ("ko", "오늘 회의는 금요일 오후 세 시로 옮겨졌습니다. 모두 바쁘기 때문에 자료를 준비할 시간이 없었습니다.",
         ["오늘 회의는 금요일 오후\n세 시로 옮겨졌습니다.", "모두 바쁘기 때문에 자료를\n준비할 시간이 없었습니다."]),
        ("de", "Wir haben gestern lange über das neue Haus gesprochen, weil der Garten zu klein ist.",
         ["Wir haben gestern lange\nüber das neue Haus gesprochen,", "weil der Garten zu klein ist."]),
    ],
)  # fmt: skip
def test_other_languages(language: str, text: str, wanted: list[str]) -> None:
    assert texts(cues(transcript(Segment(0, 0.0, 9.0, text), language=language))) == wanted


def test_an_article_stays_with_its_noun_and_no_short_word_stands_alone() -> None:
    for words in range(5, 17):
        text = " ".join(
            ["of the house and a very old tree in my garden at the end of our little street"][0].split()[:words]
        )
        lines = "\n".join(texts(cues(transcript(spoken(text, 0.0, words * 0.4))))).split("\n")
        assert [line for line in lines if line.split()[-1] in ("the", "a", "my", "our", "very", "and")] == (
            [lines[-1]] if text.split()[-1] in ("the", "a", "my", "our", "very", "and") else []
        )
        assert all(len(line) > 5 for line in lines)


def test_not_even_a_sentence_of_one_short_word_stands_alone_on_a_line() -> None:
    told = transcript(spoken("Yes. Cats dogs birds fishes horses sheep go.", 0.0, 4.0))
    assert texts(cues(told)) == ["Yes. Cats dogs birds\nfishes horses sheep go."]


def test_one_line_where_one_is_enough_and_the_lower_one_is_the_longer() -> None:
    [one] = cues(transcript(spoken("x" * 20 + " " + "y" * 21, 0.0, 3.0)))
    assert len(one.lines) == 1
    [two] = cues(transcript(spoken("aaaa bbbb cccc dddd eeee ffff gggg hhhh iiii", 0.0, 3.0)))
    above, below = (line.text for line in two.lines)
    assert 0 < len(below) - len(above) <= 5


def test_words_say_when_and_letters_where_there_are_none() -> None:
    said = [("wait", 0.5), ("for", 0.8), ("it", 1.1), ("here", 6.0), ("it", 6.3), ("comes", 6.6)]
    words = tuple(Word(word, at, at + 0.2) for word, at in said)
    pause = Segment(0, 0.0, 9.0, "Wait for it. Here it comes.", words=words)
    assert times(cues(transcript(pause))) == [(500, 1500), (6000, 7000)]
    even = Segment(0, 0.0, 8.0, f"{'a' * 9} {'b' * 9} {'c' * 9} {'d' * 9}. {'e' * 9} {'f' * 9} {'g' * 9} {'h' * 9}.")
    assert times(cues(transcript(even))) == [(0, 4000 - GAP), (4000, 8000)]


def test_words_that_the_text_lacks_move_no_other() -> None:
    words = (Word("we", 1.0, 1.2), Word("paid", 2.0, 2.2), Word("twenty", 3.0, 3.2), Word("five", 3.3, 3.4),
             Word("euros", 4.0, 4.4), Word("a", 4.5, 4.6), Word("day", 5.0, 5.4))  # fmt: skip
    [cue] = cues(transcript(Segment(0, 0.5, 6.0, "We paid 25 Euros a day.", words=words)))
    assert [(a.text, a.start, a.told) for a in cue.lines[0].atoms] == [
        ("We", 1.0, True), ("paid", 2.0, True), ("25", 2.2, False),
        ("Euros", 4.0, True), ("a", 4.5, True), ("day.", 5.0, True),
    ]  # fmt: skip
    absurd = (Word("b", 9.0, 8.0), Word("a", -5.0, 99.0))
    [cue] = cues(transcript(Segment(0, 1.0, 2.0, "b a", words=absurd)))
    assert [(a.start, a.end) for a in cue.lines[0].atoms] == [(2.0, 2.0), (2.0, 2.0)]


def test_short_segments_of_one_speaker_share_a_cue_unless_a_pause_is_between() -> None:
    def two(pause: float, speaker: str | None = "A") -> list[str]:
        first = spoken("Good morning.", 0.0, 1.0, "A")
        return texts(cues(transcript(first, spoken("Come in.", 1.0 + pause, 1.8 + pause, speaker))))

    assert two(0.2) == ["Good morning. Come in."]
    assert two(1.5) == two(9.0) == ["Good morning.", "Come in."]
    assert texts(cues(transcript(spoken("Wait", 0.0, 0.5), spoken("there", 3.0, 3.5)))) == ["Wait", "there"]
    assert texts(cues(transcript(Segment(0, 0, 1, "大家好。"), Segment(1, 1, 2, "请坐。"), language="zh"))) == [
        "大家好。请坐。"
    ]


def test_a_cue_stays_for_its_reader_but_never_into_the_next() -> None:
    quick = Segment(0, 0.0, 1.0, "x" * 20 + " " + "y" * 19, speaker="A")  # 40 columns: two seconds at 20
    assert times(cues(transcript(quick))) == [(0, 2000)]
    late = spoken("z" * 20 + " " + "z" * 20, 1.5, 3.5, "B")
    assert times(cues(transcript(quick, late))) == [(0, 1500 - GAP), (1500, 3550)]
    later = spoken("z" * 20 + " " + "z" * 20, 2.3, 4.3, "B")  # a gap of less than half a second is closed
    assert times(cues(transcript(quick, later)))[0] == (0, 2300 - GAP)
    slow = Segment(0, 10.0, 40.0, "Ooooooh")
    assert times(cues(transcript(slow))) == [(10_000, 17_000)]


def test_two_speakers_share_a_cue_only_as_two_lines_of_which_the_first_is_short() -> None:
    told = transcript(spoken("Really?", 0.0, 0.4, "A"), spoken("Yes.", 0.5, 0.8, "B"), spoken("Good.", 5.0, 5.4, "A"))
    both, alone = cues(told)
    assert both.dialogue and [(line.speaker, line.text) for line in both.lines] == [("A", "Really?"), ("B", "Yes.")]
    assert (both.start, both.end, alone.dialogue) == (0, 2000, False)
    long = "That is a rather long sentence for a line. "
    told = transcript(spoken("Really?", 0.0, 0.4, "A"), spoken(long * 2, 0.5, 5.0, "B"))
    first, *_ = cues(told)
    assert not first.dialogue and (first.start, first.end) == (0, 1000)  # a second at least, so the next is late
    assert not any(cue.dialogue for cue in cues(transcript(spoken("Yes.", 0.0, 0.4), spoken("No.", 0.5, 0.9))))
    slow = transcript(spoken("Yes.", 0.0, 0.4, "A"), Segment(0, 0.5, 9.0, "Ooooooh", speaker="B"))
    assert not any(cue.dialogue for cue in cues(slow))
    full = transcript(spoken(f"{'x' * 15} {'x' * 15} {'x' * 15}", 0.0, 2.0, "A"), spoken("Yes.", 2.1, 2.5, "B"))
    assert [len(cue.lines) for cue in cues(full)] == [2, 1]


def test_words_of_another_speaker_in_a_segment_are_his() -> None:
    words = tuple(
        Word(w, n * 1.0, n + 0.9, speaker=s) for n, (w, s) in enumerate([("one", "A"), ("two", "A"), ("no", "B")])
    )
    found = cues(transcript(Segment(0, 0.0, 3.0, "One two ? No!", speaker="A", words=words)))
    assert [(line.speaker, line.text) for cue in found for line in cue.lines] == [("A", "One two ?"), ("B", "No!")]


def test_names_stand_where_the_speaker_changes_and_fit_their_line() -> None:
    told = transcript(spoken(SPEECH, 0.0, 24.0, "Chancellor"), spoken("Thank you very much.", 24.5, 26.5, "x" * 300))
    assert [line for line in srt(told).splitlines() if ": " in line] == [
        "Chancellor: And so, my fellow Americans,", f"{'x' * 18}…: Thank you very much.",
    ]  # fmt: skip
    check(cues(told, named=True), ENGLISH)


def test_scripts() -> None:
    assert reading("Hello", "en-GB") == ENGLISH and reading("Hello", None) == reading("Grüß Gott", "de") == ALPHABETIC
    assert reading("東京大学", None) == reading("OK 大家好", "zh") == CHINESE
    assert reading("東京大学", "ja") == reading("東京へ行く", None) == JAPANESE
    assert reading("오늘 회의", None) == KOREAN
    assert (width("abc", False), width("今天", False), width("e\u0301", False), width("…", True)) == (3, 4, 1, 2)
    assert list(pieces("「東京」、GPT模型…", 16, True)) == ["「東", "京」、", "GPT", "模", "型…"]
    assert list(pieces(["word—word", "1990–1995"][0], 21, False)) == ["word—", "word"]
    assert [len(p) for p in pieces("x" * 50, 21, False)] == [21, 21, 8]
    assert list(pieces("e\u0301" * 25, 21, False)) == ["e\u0301" * 21, "e\u0301" * 4]
    assert clean("a\n\n--> \x00b\u2028c\ud800") == "a → b c"


def test_hours_take_seconds() -> None:
    """Linear in the length, for one speaker without a pause too."""

    def seconds(hours: float) -> float:
        text = SPEECH * round(hours * 3600 / 24)
        began = time.process_time()
        cues(transcript(Segment(0, 0.0, hours * 3600, text)))
        return time.process_time() - began

    seconds(0.1)
    assert seconds(4) < max(8 * seconds(1), 4)
