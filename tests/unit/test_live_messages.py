"""What a live client may say, and that everything else is refused by name, without a value of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosygate import errors
from cosygate.model.live import LiveFormat
from cosygate.model.live_messages import (
    End,
    FinalizeAt,
    GapTold,
    Ping,
    Resume,
    Start,
    parse_frame,
    parse_message,
)
from cosygate.model.options import Wish

SESSION, TOKEN = "0" * 32, "t" * 32


def said(**message: object) -> str:
    return json.dumps(message)


def test_start_needs_its_rate_alone() -> None:
    start = parse_message(said(type="start", sample_rate=48_000))
    assert isinstance(start, Start)
    assert (start.rate, start.format, start.interim, start.options.language) == (48_000, LiveFormat.S16LE, True, "auto")


def test_start_with_everything() -> None:
    start = parse_message(
        said(
            type="start", sample_rate=8000, format="mulaw", language="en-GB", model="m", interim=False,
            options={"filename": "a/b.wav", "words": False},
        )
    )  # fmt: skip
    assert isinstance(start, Start)
    assert (start.format, start.interim) == (LiveFormat.MULAW, False)
    assert (start.options.language, start.options.model, start.options.filename) == ("en-GB", "m", "b.wav")


def test_the_rate_of_webm_is_its_own() -> None:
    start = parse_message(said(type="start", sample_rate=1, format="webm-opus"))
    assert isinstance(start, Start)
    assert start.rate == 16_000


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        (said(type="resume", session=SESSION, resume_token=TOKEN), Resume(SESSION, TOKEN, -1)),
        (said(type="resume", session=SESSION, resume_token=TOKEN, last_final=None), Resume(SESSION, TOKEN, -1)),
        (said(type="resume", session=SESSION, resume_token=TOKEN, last_final=7), Resume(SESSION, TOKEN, 7)),
        (said(type="finalize"), FinalizeAt(None)),
        (said(type="finalize", samples=5), FinalizeAt(5)),
        (said(type="gap", **{"from": 1, "to": 2}), GapTold(1, 2)),
        (said(type="end", samples=0), End(0)),
        (said(type="ping"), Ping()),
    ],
)
def test_what_may_be_said(text: str, meaning: object) -> None:
    assert parse_message(text) == meaning


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "7", "null", '"start"', "[" * 100_000,
        said(), said(type=None), said(type="begin"), said(type=[]),
        said(type="start"), said(type="start", sample_rate="16000"), said(type="start", sample_rate=16_000.0),
        said(type="start", sample_rate=True), said(type="start", sample_rate=0), said(type="start", sample_rate=2**31),
        said(type="start", sample_rate=16_000, format="mp3"), said(type="start", sample_rate=16_000, format=[]),
        said(type="start", sample_rate=16_000, interim="yes"), said(type="start", sample_rate=16_000, surprise=1),
        said(type="start", sample_rate=16_000, options=[1]), said(type="start", sample_rate=16_000, language=7),
        said(type="start", sample_rate=16_000, options={"filename": ["x"]}),
        said(type="resume", session=SESSION, resume_token=TOKEN, last_final=-1),
        said(type="resume", session=SESSION, resume_token=TOKEN, last_final="7"),
        said(type="finalize", samples=-1), said(type="finalize", samples=1.5), said(type="finalize", samples=True),
        said(type="gap"), said(type="gap", **{"from": 2, "to": 2}), said(type="gap", **{"from": 3, "to": 2}),
        said(type="end"), said(type="end", samples=2**53), said(type="end", samples=None),
        said(type="ping", anything=1),
    ],
)  # fmt: skip
def test_what_may_not_be_said(text: str) -> None:
    with pytest.raises(errors.LiveProtocol):
        parse_message(text)


@pytest.mark.parametrize(
    "told",
    [{"session": "x"}, {"session": SESSION.upper() + "A"}, {"session": 7}, {"resume_token": ""},
     {"resume_token": "a b" * 10}, {"resume_token": None}, {"session": "../" + SESSION}],
)  # fmt: skip
def test_what_cannot_be_a_session_does_not_exist(told: dict[str, object]) -> None:
    with pytest.raises(errors.SessionNotFound):
        parse_message(said(**({"type": "resume", "session": SESSION, "resume_token": TOKEN} | told)))


@pytest.mark.parametrize(
    "options",
    [{"words": True}, {"channels": "split"}, {"priority": "low"}, {"nothing": "x"},
     {"audio_format": "s16le;rate=16000;channels=1"}],
)  # fmt: skip
def test_an_option_that_nothing_honours_is_refused_by_name(options: dict[str, object]) -> None:
    with pytest.raises(errors.OptionUnsupported) as refused:
        parse_message(said(type="start", sample_rate=16_000, options=options))
    assert refused.value.extra["option"] in options


@pytest.mark.parametrize(
    ("options", "asked"),
    [({}, (Wish.NO, 0, 0)), ({"diarize": "auto"}, (Wish.AUTO, 0, 0)), ({"diarize": True}, (Wish.YES, 0, 0)),
     ({"num_speakers": 2}, (Wish.YES, 2, 0)), ({"diarize": "auto", "max_speakers": "4"}, (Wish.AUTO, 0, 4))],
)  # fmt: skip
def test_who_speaks_may_be_asked_for(options: dict[str, object], asked: tuple[Wish, int, int]) -> None:
    start = parse_message(said(type="start", sample_rate=16_000, options=options | {"words": "auto"}))
    assert isinstance(start, Start)
    assert (start.options.diarize, start.options.num_speakers, start.options.max_speakers) == asked
    assert start.options.words is Wish.NO, "nobody tells them of live speech"


def test_frames() -> None:
    index, audio = parse_frame((5).to_bytes(8, "big") + b"abcd", 2)
    assert (index, bytes(audio)) == (5, b"abcd")
    for wrong in (b"", b"1234567", bytes(8), bytes(9), bytes(11), b"\xff" * 8 + b"ab"):
        with pytest.raises(errors.LiveFrameInvalid):
            parse_frame(wrong, 2)
    assert bytes(parse_frame(bytes(8) + b"a", 1)[1]) == b"a"


@given(
    st.text()
    | st.dictionaries(st.sampled_from(["type", "samples", "session"]), st.text() | st.integers()).map(json.dumps)
)
def test_nothing_else_than_our_errors_ever_comes_out(text: str) -> None:
    try:
        parse_message(text)
    except errors.CosyGateError as error:
        assert error.close_code in (4400, 4404)
