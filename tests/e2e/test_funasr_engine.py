"""A FunASR runtime behind the gateway: gateway, engine and runtime are processes of their own."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from cosygate.client import Client
from tests.api.conftest import code_of
from tests.support.engine_process import SAMPLES, engine_process, speech_pcm
from tests.support.funasr_peer import Peer, funasr_peer
from tests.support.server import Server, wait_task

SENTENCES = [{"text_seg": "你 好", "punc": "。", "start": 100, "end": 500, "ts_list": [[100, 300], [300, 500]]}]
HEARD = {"text": "<|zh|><|HAPPY|><|Laughter|>你好。", "stamp_sents": SENTENCES}
ALL = ("--funasr-languages", "zh,en", "--funasr-capabilities", "words,language,emotion,events,itn,hotwords")


@contextmanager
def behind(peer: Peer, data_dir: Path, *engine: str) -> Iterator[Server]:
    """A gateway whose only engine has this runtime."""
    argv = ("--recogniser", "funasr", "--funasr-url", peer.url, "--slots", "2", *engine)
    with (
        engine_process(*argv, listen="127.0.0.1:0") as running,
        Server(data_dir, engine_addresses=running.address) as server,
    ):
        yield server


def submit(server: Server, **options: str) -> httpx2.Response:
    with server.http() as http:
        query = {"is_last": "1", **options}
        return http.put(f"/v1/audio/{uuid.uuid4().hex}/0", params=query, content=(SAMPLES / "note.wav").read_bytes())


def transcript(server: Server, **options: str) -> dict[str, Any]:
    made = submit(server, **options)
    assert made.status_code == 202, made.text
    with server.http() as http:
        task = wait_task(http, made.json()["task_id"])
        assert task["state"] == "succeeded", task
        found: dict[str, Any] = http.get(f"/v1/task/{task['task_id']}/transcript?format=json").json()
        return found


def test_a_recording_is_transcribed_with_all_that_the_runtime_tells(data_dir: Path) -> None:
    with funasr_peer("offline", results=[HEARD]) as peer, behind(peer, data_dir, *ALL) as server:
        told = transcript(server, words="true", emotion="true", hotwords="阿里巴巴", language="zh")
        said = peer.conversations()
        with server.http() as http:
            (engine,) = http.get("/v1/models").json()["engines"]
    assert told["engine"]["name"] == "funasr"
    assert len(told["segments"]) == len(said) >= 1  # a conversation for each piece of speech
    for segment in told["segments"]:
        assert segment["text"] == "你好。"
        assert (segment["language"], segment["emotion"], segment["events"]) == ("zh", "happy", ["laughter"])
        assert [word["text"] for word in segment["words"]] == ["你", "好。"]
        starts = [round(word["start"] - segment["start"], 2) for word in segment["words"]]
        assert starts == [0.1, 0.3]
    assert json.loads(said[0]["opening"]["hotwords"]) == {"阿里巴巴": 20}
    assert said[0]["opening"]["svs_lang"] == "zh"
    (model,) = engine["models"]
    assert (model["name"], model["languages"]) == ("funasr", ["zh", "en"])
    assert {"words": True, "emotion": True, "live": True}.items() <= model.items()


def test_what_the_operator_did_not_say_is_refused_by_name(data_dir: Path) -> None:
    with funasr_peer("offline") as peer, behind(peer, data_dir) as server:
        transcript(server)  # the gateway has heard of the engine
        for option, value in (("words", "true"), ("emotion", "true"), ("hotwords", "x"), ("language", "ja")):
            refused = submit(server, **{option: value})
            assert code_of(refused) == (422, "option_unsupported")
            assert refused.json()["option"] == option
        assert not any(segment.get("emotion") for segment in transcript(server, emotion="auto")["segments"])


def test_2pass_runtime(data_dir: Path) -> None:
    results = [{"text": "第一句，"}, {"text": "第二句。"}]
    with (
        funasr_peer("2pass", results=results) as peer,
        behind(peer, data_dir, "--funasr-mode", "2pass") as server,
    ):
        assert {segment["text"] for segment in transcript(server)["segments"]} == {"第一句，第二句。"}


def test_a_runtime_that_restarts_loses_no_recording(data_dir: Path) -> None:
    """Four broken connections: three tries of a piece, an attempt of the recording, and one try of the next."""
    with funasr_peer("offline", fault="cut", faults=4) as peer, behind(peer, data_dir) as server:
        assert all(segment["text"].startswith("heard ") for segment in transcript(server)["segments"])


def test_live(data_dir: Path) -> None:
    pcm, rate = speech_pcm("note.wav")
    with (
        funasr_peer("offline", results=[HEARD]) as peer,
        behind(peer, data_dir, *ALL) as server,
        Client(server.url, server.token()) as client,
    ):
        with client.live(rate, language="zh", wait_when_full=True) as live:
            live.send(pcm)
            live.end(30)
        assert {final.text for final in live.finals} == {"你好。"}
