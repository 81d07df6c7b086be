"""What FunASR's servers answer, as a Recognised; and what a recogniser of theirs cannot be started with."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosygate.engine.recognisers.base import CannotStart, Recognised, RecogniserError
from cosygate.engine.recognisers.funasr import Funasr
from cosygate.engine.recognisers.funasr_answers import ANSWER_MAX, Answers

ALL = ("words", "emotion")
# As FunASR's own documentation has it (runtime/docs/websocket_protocol.md), with a second sentence.
STAMPED = {
    "mode": "offline",
    "wav_name": "wav_name",
    "text": "正是因为，iPhone 15。",
    "is_final": False,
    "timestamp": "[[430,670],[670,810],[810,1030],[1030,1130],[1200,1700],[1700,1800],[1800,1990]]",
    "stamp_sents": [
        {"text_seg": "正 是 因 为", "punc": "，", "start": 430, "end": 1130,
         "ts_list": [[430, 670], [670, 810], [810, 1030], [1030, 1130]]},
        {"text_seg": "iPhone 1 5", "punc": "。", "start": 1200, "end": 1990,
         "ts_list": [[1200, 1700], [1700, 1800], [1800, 1990]]},
    ],
}  # fmt: skip


def hear(*answers: dict[str, Any], mode: str = "offline", features: tuple[str, ...] = ALL) -> Recognised:
    """All of them, of which the last must be the last and no other."""
    heard = Answers(mode, features)
    assert [heard.take(json.dumps(answer)) for answer in answers] == [False] * (len(answers) - 1) + [True]
    return heard.recognised(3.0)


def offline(text: str, **members: Any) -> dict[str, Any]:
    return {"mode": "offline", "text": text, "is_final": False, **members}


def two_pass(text: str, *, online: bool = False, last: bool = False) -> dict[str, Any]:
    return {"mode": "2pass-online" if online else "2pass-offline", "text": text, "is_final": last}


def told(recognised: Recognised) -> list[tuple[str, float, float]]:
    return [(word.text, word.start, word.end) for word in recognised.words]


# --- words -------------------------------------------------------------------------------------------------------


def test_a_chinese_character_is_a_word_and_digits_that_stand_together_are_one() -> None:
    assert told(hear(STAMPED)) == [
        ("正", 0.43, 0.67),
        ("是", 0.67, 0.81),
        ("因", 0.81, 1.03),
        ("为，", 1.03, 1.13),
        ("iPhone", 1.2, 1.7),
        ("15。", 1.7, 1.99),
    ]


def test_words_are_told_to_those_who_ask() -> None:
    assert hear(STAMPED, features=()) == Recognised("正是因为，iPhone 15。")


def stamped(text: str, segment: str, times: list[Any]) -> dict[str, Any]:
    return offline(text, stamp_sents=[{"text_seg": segment, "punc": "", "start": 0, "end": 0, "ts_list": times}])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (stamped("hello world", "hello world", [[0, 500], [600, 900]]), [("hello", 0, 0.5), ("world", 0.6, 0.9)]),
        (stamped("它是 3.5 米", "它 是 3 . 5 米", [[0, 1], [1, 2], [2, 3], [3, 4], [4, 5], [5, 6]]),
         [("它", 0, 0.001), ("是", 0.001, 0.002), ("3.5", 0.002, 0.005), ("米", 0.005, 0.006)]),
        (stamped("好ok好", "好 ok 好", [[0, 1], [1, 2], [2, 3]]),
         [("好", 0, 0.001), ("ok", 0.001, 0.002), ("好", 0.002, 0.003)]),
        # Ends before it starts, begins before the last has ended, before the piece and after it.
        (stamped("a b c d", "a b c d", [[-200, -300], [900, 700], [100, 950], [9_000, 9_999]]),
         [("a", 0, 0), ("b", 0.9, 0.9), ("c", 0.9, 0.95), ("d", 3.0, 3.0)]),
        (stamped("「好」", "好", [[10, 20]]), [("「好」", 0.01, 0.02)]),
        (stamped("25 years", "twenty five years", [[0, 1], [1, 2], [2, 3]]), []),  # not the text
        (stamped("hello big world", "hello world", [[0, 1], [1, 2]]), []),  # not all of it
        (stamped("hello world", "hello", [[0, 1]]), []),
        (offline("hello", stamp_sents=""), []),  # what the runtime says when it fails at its own JSON
        (offline("hello", stamp_sents=[{"text_seg": "", "punc": "。", "start": -1, "end": -1, "ts_list": []}]), []),
    ],
)  # fmt: skip
def test_times_become_words(answer: dict[str, Any], words: list[tuple[str, float, float]]) -> None:
    assert told(hear(answer)) == words


@given(
    st.lists(st.tuples(st.sampled_from(["好", "的", "yes", "no", "7"]), st.integers(-(10**6), 10**6),
                       st.integers(-(10**6), 10**6)), min_size=1, max_size=20),
    st.lists(st.sampled_from(["", " ", "，", ". "]), min_size=20, max_size=20),
)  # fmt: skip
def test_words_spell_the_text_in_order_inside_the_piece(tokens: list[tuple[str, int, int]], gaps: list[str]) -> None:
    text = " ".join("".join(token + gap for (token, _, _), gap in zip(tokens, gaps, strict=False)).split())
    heard = hear(stamped(text, " ".join(t for t, _, _ in tokens), [[a, b] for _, a, b in tokens]))
    assert "".join(word.text for word in heard.words) == "".join(text.split())
    assert all(0 <= word.start <= word.end <= 3.0 for word in heard.words)
    assert all(one.end <= two.start for one, two in itertools.pairwise(heard.words))
    assert all(word.confidence is None for word in heard.words)


# --- SenseVoice --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "recognised"),
    [
        ("<|zh|><|HAPPY|><|Speech|> 你好。", Recognised("你好。", language="zh", emotion="happy")),
        ("<|en|><|NEUTRAL|><|BGM|> well hello", Recognised("well hello", language="en",
                                                           emotion="neutral", events=("bgm",))),
        ("<|yue|><|EMO_UNKNOWN|><|Laughter|><|withitn|>係啊", Recognised("係啊", language="yue", events=("laughter",))),
        # The runtime cut the piece: the first of each that is known, every event once, spaces where they belong.
        ("<|zh|><|EMO_UNKNOWN|><|Cough|> 你好。<|en|><|SAD|><|Cough|> Hi."
         "<|ko|><|SAD|><|Applause|> 안녕.<|en|><|SAD|><|Speech|> Bye.",
         Recognised("你好。Hi. 안녕. Bye.", language="zh", emotion="sad", events=("cough", "applause"))),
        ("<|en|><|NEUTRAL|><|Speech|> Hi.<|ja|><|NEUTRAL|><|Speech|> はい。", Recognised("Hi.はい。", language="en",
                                                                                   emotion="neutral")),
        ("<|nospeech|><|EMO_UNKNOWN|><|Event_UNK|> .", Recognised("")),
        ("a <| b |> c", Recognised("a <| b |> c")),
    ],
)  # fmt: skip
def test_tags_become_language_mood_and_events(text: str, recognised: Recognised) -> None:
    assert hear(offline(text)) == recognised


def test_a_mood_is_told_to_those_who_ask_and_tags_never_stay_in_the_text() -> None:
    assert hear(offline("<|zh|><|HAPPY|><|Speech|>好"), features=()) == Recognised("好", language="zh")


# --- how answers end ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", " ", "。", "，。"])
def test_nothing_said(text: str) -> None:
    assert hear(offline(text)) == Recognised("")


def test_a_text_is_one_line() -> None:
    assert hear(offline(" one\n two\t")).text == "one two"


def test_half_a_character_can_be_told_on() -> None:
    assert hear(offline("a \ud800 b")).text == "a ? b"


def test_2pass_takes_the_second_pass() -> None:
    partly = two_pass("第一", online=True)
    heard = hear(partly, two_pass("第一句，"), partly, two_pass("one"), two_pass("two", last=True), mode="2pass")
    assert heard.text == "第一句，one two"


@pytest.mark.parametrize(
    "last",
    [{"text": "", "is_final": True}, {"text": "x", "mode": "2pass-online", "is_final": True}],
    ids=["no mode", "first pass"],
)
def test_2pass_may_end_without_a_second_pass(last: dict[str, Any]) -> None:
    assert hear(two_pass("好"), last, mode="2pass").text == "好"


def test_the_python_server_ends_when_it_says_so() -> None:
    one, two = (offline(text, is_final=True, spk_name="unknown", spk_score=0.0) for text in ("one", "two"))
    end = {"mode": "offline", "wav_name": "x", "is_final": True, "is_end": True}
    assert hear(one, two, end).text == "one two"
    assert hear(end) == Recognised("")


def test_the_python_server_of_before_says_is_final_until_the_end() -> None:
    assert hear(offline("one", is_final=True), offline("two", is_final=False)).text == "one two"


# --- what is not an answer ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ("", "not JSON"),
        (b"\xff", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not an object"),
        ('{"mode": "offline", "text": 5}', "a text that is not a text"),
        ('{"mode": ["offline"]}', "a mode that is not a text"),
        ('{"text": "no mode"}', "mode '': --funasr-mode offline does not fit"),
        ('{"mode": "2pass-offline", "text": "x", "is_final": true}', "--funasr-mode offline does not fit"),
        ('{"is_end": true, "is_final": false, "error": "offline inference failed"}', "offline inference failed"),
        (json.dumps(offline("x" * ANSWER_MAX)), "too much"),
        *((json.dumps(offline("x", stamp_sents=sentences)), "stamp_sents") for sentences in (
            5, "x", [5], [{}], [{"text_seg": "a", "ts_list": None}], [{"text_seg": 5, "ts_list": []}],
            [{"text_seg": "a", "ts_list": [5]}], [{"text_seg": "a", "ts_list": [[1, "2"]]}],
            [{"text_seg": "a b", "ts_list": [[1, 2]]}], [{"text_seg": "a", "ts_list": [[1, 2, 3]]}],
            [{"text_seg": "a", "ts_list": [[1, float("nan")]]}], [{"text_seg": "a", "ts_list": [[10**400, 1]]}],
        )),
    ],
)  # fmt: skip
def test_what_has_another_shape_is_an_error(message: str | bytes, says: str) -> None:
    with pytest.raises(RecogniserError, match=says):
        Answers("offline", ALL).take(message)


def test_an_offline_runtime_is_not_asked_in_2pass() -> None:
    with pytest.raises(RecogniserError, match="'offline': --funasr-mode 2pass does not fit"):
        hear(offline("x"), mode="2pass")


def test_all_answers_together_are_bounded() -> None:
    heard = Answers("offline", ())
    with pytest.raises(RecogniserError, match="too much"):
        for _ in range(ANSWER_MAX // 10_000 + 1):
            heard.take(json.dumps(offline("x" * 10_000, is_final=True)))


@given(st.text() | st.binary())
def test_anything_is_an_answer_or_an_error(message: str | bytes) -> None:
    try:
        Answers("offline", ALL).take(message)
    except RecogniserError as error:
        assert error.status == "INTERNAL"


# --- what it cannot be started with ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"url": ""}, "--funasr-url ws://host:10095"),
        ({"url": "http://host"}, "--funasr-url ws://"),
        ({"url": "ws://"}, "--funasr-url ws://"),
        ({"url": "ws://host:port"}, "--funasr-url ws://"),
        ({"mode": "online"}, "no --funasr-mode online; there is offline, 2pass"),
        ({"languages": ()}, "BCP 47"),
        ({"languages": ("zh", "*")}, "BCP 47"),
        ({"capabilities": ("words", "speakers", "smell")}, "not smell, speakers"),
        ({"ca": Path("ca.pem")}, "takes a wss:// address"),
        ({"url": "wss://host", "ca": Path("none.pem")}, "none.pem cannot be used: .*No such file"),
        ({"url": "wss://host", "ca": Path(__file__)}, "test_funasr.py cannot be used"),
    ],
)
def test_what_is_wrong_is_said_at_the_start(options: dict[str, Any], says: str) -> None:
    with pytest.raises(CannotStart, match=says):
        Funasr(**{"url": "ws://host:10095", **options})


def test_it_is_what_it_was_told_to_be() -> None:
    made = Funasr("ws://host:10095", mode="2pass", languages=("zh", "en"), capabilities=("itn",), timeout_s=5)
    made.close()
    (model,) = made.models
    assert (model.name, model.languages, model.capabilities) == ("funasr", ("zh", "en"), ("itn",))
    assert (made.name, made.version, made.limit_s, made.cut_s) == ("funasr", "websocket 2pass", 5, None)
