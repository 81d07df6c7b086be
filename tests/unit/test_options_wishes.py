"""What only some models can tell: how it is asked for, refused by name, and which model it is asked of."""

from __future__ import annotations

import json

import pytest

from cosygate import errors
from cosygate.flows.honouring import check_honoured, fitting
from cosygate.model.options import TranscribeOptions, Wish, parse_options
from cosygate.ports.engine import ModelInfo

PLAIN = ModelInfo("plain", ("en",), live=True)
RICH = ModelInfo("rich", ("zh", "en"), words=True, speakers=True, emotion=True, itn=True, hotwords=True)


@pytest.mark.parametrize(("text", "wish"), [("true", Wish.YES), ("1", Wish.YES), ("AUTO", Wish.AUTO), ("0", Wish.NO)])
def test_wishes_are_read(text: str, wish: Wish) -> None:
    for name in ("words", "diarize", "emotion", "itn"):
        options = parse_options({name: text})
        assert getattr(options, name) is wish
        assert TranscribeOptions.from_json(options.to_json()) == options


@pytest.mark.parametrize(
    ("fields", "option"),
    [
        ({"words": "yes"}, "words"),
        ({"diarize": ""}, "diarize"),
        ({"num_speakers": "0"}, "num_speakers"),
        ({"num_speakers": "31"}, "num_speakers"),
        ({"max_speakers": "2.0"}, "max_speakers"),
        ({"max_speakers": "٣"}, "max_speakers"),
        ({"num_speakers": "2", "diarize": "false"}, "num_speakers"),
        ({"num_speakers": "3", "max_speakers": "2"}, "num_speakers"),
        ({"hotwords": ",".join(f"word{n}" for n in range(101))}, "hotwords"),
        ({"hotwords": "x" * 65}, "hotwords"),
        ({"hotwords": "be\x07ll"}, "hotwords"),
    ],
)
def test_what_is_no_wish_is_refused(fields: dict[str, str], option: str) -> None:
    with pytest.raises(errors.OptionInvalid) as refused:
        parse_options(fields)
    assert refused.value.extra["option"] == option


def test_a_number_of_speakers_asks_for_them() -> None:
    assert parse_options({"num_speakers": "2"}).diarize is Wish.YES
    assert parse_options({"max_speakers": "4", "diarize": "auto"}).diarize is Wish.AUTO


def test_hotwords_are_a_list() -> None:
    options = parse_options({"hotwords": " CosyGate,  mister   Dashwood\n,,骏马 "})
    assert options.hotwords == ("CosyGate", "mister Dashwood", "骏马")
    assert TranscribeOptions.from_json(options.to_json()) == options


def test_processes_of_the_version_before_can_read_what_says_nothing_new() -> None:
    known = {"language", "model", "channels", "priority", "audio_format", "filename", "callback_url"}
    assert set(json.loads(TranscribeOptions().to_json())) == known


def test_a_model_is_asked_for_what_was_wished() -> None:
    options = parse_options({"words": "true", "diarize": "auto"})
    assert options.features(PLAIN.can) == ("words",)
    assert options.features(RICH.can) == ("words", "speakers", "emotion", "itn")
    assert parse_options({"emotion": "false", "itn": "0"}).features(RICH.can) == ()
    assert parse_options({"diarize": "true", "emotion": "0", "itn": "0"}).features(RICH.can) == ("words", "speakers")


def test_where_each_channel_is_a_speaker_no_model_tells_them() -> None:
    options = parse_options({"diarize": "true", "channels": "split"})
    assert options.required == {}
    assert fitting([PLAIN], options) is PLAIN


@pytest.mark.parametrize(
    ("fields", "option"),
    [
        ({"words": "true"}, "words"),
        ({"diarize": "true"}, "diarize"),
        ({"num_speakers": "2"}, "diarize"),
        ({"emotion": "1"}, "emotion"),
        ({"itn": "true"}, "itn"),
        ({"hotwords": "a"}, "hotwords"),
        ({"model": "absent"}, "model"),
        ({"language": "fr"}, "language"),
    ],
)
def test_what_no_model_can_is_refused_by_name(fields: dict[str, str], option: str) -> None:
    options = parse_options(fields)
    with pytest.raises(errors.OptionUnsupported) as refused:
        check_honoured([PLAIN], options)
    assert refused.value.extra["option"] == option
    assert fitting([PLAIN], options) is None
    check_honoured([], options)  # nobody was heard of yet: it waits


def test_one_model_has_to_do_all_of_it() -> None:
    words, moods = ModelInfo("words", ("en",), words=True), ModelInfo("moods", ("en",), emotion=True)
    options = parse_options({"words": "true", "emotion": "true"})
    with pytest.raises(errors.OptionUnsupported):
        check_honoured([words, moods], options)
    check_honoured([words, moods, RICH], options)
    assert fitting([words, moods, RICH], options) is RICH
    assert fitting([words, moods, RICH], TranscribeOptions()) is words
    assert fitting([RICH, PLAIN], TranscribeOptions(), live=True) is PLAIN


def test_a_live_session_has_speakers_of_its_own_and_no_words() -> None:
    asked = parse_options({"diarize": "true"})
    recordings = ModelInfo("recordings", ("en",), words=True, speakers=True, live=True)
    both = ModelInfo("both", ("en",), words=True, speakers=True, live_speakers=True, live=True)
    with pytest.raises(errors.OptionUnsupported, match="diarize in live sessions") as refused:
        check_honoured([recordings], asked, live=True)
    assert refused.value.extra["option"] == "diarize"
    check_honoured([recordings, both], asked, live=True)
    assert fitting([recordings, both], asked) is recordings
    assert fitting([recordings, both], asked, live=True) is both
    assert asked.features(both.can) == ("words", "speakers")
    assert asked.features(both.can_live) == ("speakers",)
    assert parse_options({"diarize": "auto"}).features(recordings.can_live) == ()
