"""The FunASR recogniser, with a peer process that speaks FunASR's protocol as its three servers do, and fails."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from cosygate.engine.pipeline import recognise
from cosygate.engine.recognisers.base import RATE, Hints, Recognised, RecogniserError, Samples, Stopped, Transient
from cosygate.engine.recognisers.funasr import Funasr
from tests.support.certificates import Authority
from tests.support.fleet import free_port
from tests.support.funasr_peer import Peer, funasr_peer

SECOND = RATE * 2  # bytes
PIECE: Samples = (0.3 * np.sin(np.arange(RATE) * 0.2)).astype(np.float32)
LONG: Samples = np.zeros(15 * RATE, np.float32)
ENDLESS: Samples = np.zeros(600 * RATE, np.float32)  # more than the sockets in between hold


@contextmanager
def asking(url: str, **options: Any) -> Iterator[Funasr]:
    made = Funasr(url, **{"timeout_s": 20.0, **options})
    yield made
    made.close()


def hear(recogniser: Funasr, samples: Samples = PIECE, stop: threading.Event | None = None, **hints: Any) -> Recognised:
    return recogniser.recognise(samples, Hints("funasr", **hints), stop or threading.Event())


def ask(peer: Peer, samples: Samples = PIECE, **hints: Any) -> Recognised:
    with asking(peer.url) as recogniser:
        return hear(recogniser, samples, **hints)


# --- what is said and answered -----------------------------------------------------------------------------------


def test_the_offline_runtime_gets_the_piece_and_its_answer_is_heard() -> None:
    with funasr_peer("offline") as peer:
        assert ask(peer) == Recognised("heard 16000 samples")
        (said,) = peer.conversations()
    assert said["opening"] == {
        "mode": "offline", "wav_name": "cosygate", "wav_format": "pcm", "audio_fs": 16_000, "is_speaking": True,
        "svs_lang": "auto", "chunk_size": [5, 10, 5], "chunk_interval": 10,
    }  # fmt: skip
    assert said["end"] == {"is_speaking": False, "is_end": True}
    pcm = (PIECE * 32768).astype("<i2").tobytes()
    assert (said["bytes"], said["sha256"]) == (SECOND, hashlib.sha256(pcm).hexdigest())
    assert said["frames"] == 17  # of 60 ms


def test_2pass_is_asked_for_and_its_second_pass_heard() -> None:
    with (
        funasr_peer("2pass", results=[{"text": "你好，"}, {"text": "世界。"}]) as peer,
        asking(peer.url, mode="2pass") as recogniser,
    ):
        assert hear(recogniser, LONG).text == "你好，世界。"  # 25 partials on its way
        assert peer.conversations()[0]["opening"]["mode"] == "2pass"


def test_2pass_without_words() -> None:
    with funasr_peer("2pass", results=[{"text": ""}]) as peer, asking(peer.url, mode="2pass") as recogniser:
        assert hear(recogniser) == Recognised("")


def test_the_python_server_is_heard_to_its_end() -> None:
    with funasr_peer("python", results=[{"text": "one"}, {"text": "two"}]) as peer:
        assert ask(peer).text == "one two"
    with funasr_peer("python", results=[]) as peer:
        assert ask(peer) == Recognised("")


@pytest.mark.parametrize(("kind", "mode"), [("offline", "2pass"), ("2pass", "offline")])
def test_the_wrong_mode_is_named(kind: str, mode: str) -> None:
    with funasr_peer(kind) as peer, asking(peer.url, mode=mode) as recogniser:
        with pytest.raises(RecogniserError, match=f"--funasr-mode {mode} does not fit") as raised:
            hear(recogniser)
        assert not isinstance(raised.value, Transient)


def test_words_mood_and_language_come_through() -> None:
    sentences = [{"text_seg": "你 好", "punc": "。", "start": 100, "end": 500, "ts_list": [[100, 300], [300, 500]]}]
    result = {"text": "<|zh|><|HAPPY|><|Speech|>你好。", "stamp_sents": sentences}
    with funasr_peer("offline", results=[result]) as peer:
        heard = ask(peer, features=("words", "emotion"))
    assert (heard.text, heard.language, heard.emotion) == ("你好。", "zh", "happy")
    assert [(word.text, word.start, word.end) for word in heard.words] == [("你", 0.1, 0.3), ("好。", 0.3, 0.5)]


def test_hot_words_language_and_itn_are_said() -> None:
    with funasr_peer("offline") as peer:
        with asking(peer.url, capabilities=("itn", "hotwords")) as recogniser:
            hear(recogniser, language="yue-HK", hotwords=("阿里巴巴", "Cosy Gate"), features=("itn",))
            hear(recogniser)
        one, two = (conversation["opening"] for conversation in peer.conversations(2))
    assert json.loads(one["hotwords"]) == {"阿里巴巴": 20, "Cosy Gate": 20}
    assert (one["svs_lang"], one["itn"], one["svs_itn"]) == ("yue", True, True)
    assert "hotwords" not in two
    assert (two["svs_lang"], two["itn"], two["svs_itn"]) == ("auto", False, False)


def test_several_threads_get_their_own_answers_and_no_connection_stays() -> None:
    heard: dict[int, str] = {}
    with funasr_peer("offline", delay_s=0.1) as peer, asking(peer.url) as recogniser:

        def work(samples: int) -> None:
            heard[samples] = hear(recogniser, LONG[:samples]).text

        threads = [threading.Thread(target=work, args=(1600 * n,)) for n in range(1, 9)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert heard == {1600 * n: f"heard {1600 * n} samples" for n in range(1, 9)}
        assert time.monotonic() - began < 0.7  # all at once, not one by one
        assert connections(peer) == 0


def connections(peer: Peer) -> int:
    """Of this process to the peer, half a second from now at the latest."""
    port = int(peer.url.rpartition(":")[2])
    deadline = time.monotonic() + 0.5
    while True:
        mine = [c for c in psutil.Process().net_connections("tcp") if c.raddr and c.raddr.port == port]
        open_ones = [c for c in mine if c.status == psutil.CONN_ESTABLISHED]
        if not open_ones or time.monotonic() > deadline:
            return len(open_ones)
        time.sleep(0.02)


# --- TLS ---------------------------------------------------------------------------------------------------------


def test_wss_with_an_authority(tmp_path: Path) -> None:
    ours = Authority(tmp_path)
    with funasr_peer(tls=ours.issue("runtime", "127.0.0.1")) as peer, asking(peer.url, ca=ours.cert) as recogniser:
        assert hear(recogniser).text == "heard 16000 samples"


@pytest.mark.parametrize("wrong", ["authority", "name", "system"])
def test_a_runtime_that_is_not_the_one_gets_no_audio(wrong: str, tmp_path: Path) -> None:
    ours = Authority(tmp_path)
    others = Authority(tmp_path, "others")
    own = ours.issue("runtime", "10.9.9.9" if wrong == "name" else "127.0.0.1")
    ca = {"authority": others.cert, "name": ours.cert, "system": None}[wrong]
    with funasr_peer(tls=own) as peer, asking(peer.url, ca=ca) as recogniser:
        with pytest.raises(Transient, match="certificate verify failed"):
            hear(recogniser)
        assert peer.log.read_text() == ""


# --- what fails --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["cut", "close"])
def test_a_connection_that_breaks_is_tried_again(fault: str) -> None:
    with funasr_peer("offline", fault=fault, faults=2) as peer, asking(peer.url) as recogniser:
        with pytest.raises(Transient):
            hear(recogniser)
        assert recognise(recogniser, PIECE, Hints("funasr"), threading.Event()).text == "heard 16000 samples"


def test_no_runtime_is_transient() -> None:
    with asking(f"ws://127.0.0.1:{free_port()}") as recogniser, pytest.raises(Transient, match="Connect call failed"):
        hear(recogniser)


def test_no_such_host_is_transient() -> None:
    with asking("ws://nowhere.invalid:10095") as recogniser, pytest.raises(Transient, match=r"nowhere\.invalid:10095"):
        hear(recogniser)


def test_another_server_is_not_waited_for_for_ever() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with (
            asking(f"ws://127.0.0.1:{silent.getsockname()[1]}") as recogniser,
            pytest.raises(Transient, match="does not take connections"),
        ):
            hear(recogniser)
        assert time.monotonic() - began < 6


@pytest.mark.parametrize(
    ("fault", "says"),
    [("garbage", "not JSON"), ("binary", "not JSON"), ("huge", "sends what it may not"), ("flood", "too much")],
)
def test_garbage_is_an_error_and_not_tried_again(fault: str, says: str) -> None:
    with funasr_peer("offline", fault=fault) as peer, asking(peer.url) as recogniser:
        with pytest.raises(RecogniserError, match=says) as raised:
            recognise(recogniser, PIECE, Hints("funasr"), threading.Event())
        assert raised.value.status == "INTERNAL"
        assert len(peer.conversations()) == 1
        assert connections(peer) == 0
        assert psutil.Process().memory_info().rss < 1 << 30


@pytest.mark.parametrize("fault", ["never", "deaf", "slow"])
def test_a_piece_takes_no_longer_than_it_may(fault: str) -> None:
    with funasr_peer("offline", fault=fault) as peer, asking(peer.url, timeout_s=0.6) as recogniser:
        began = time.monotonic()
        with pytest.raises(RecogniserError, match=r"took longer than 0\.6 s"):
            hear(recogniser, ENDLESS)
        assert 0.6 <= time.monotonic() - began < 1.6
        assert connections(peer) == 0


@pytest.mark.parametrize("fault", ["never", "deaf", "slow", "frozen"])
def test_whoever_leaves_is_let_go_within_a_second(fault: str) -> None:
    with funasr_peer("offline", fault=fault if fault != "frozen" else "") as peer, asking(peer.url) as recogniser:
        if fault == "frozen":
            os.kill(peer.pid, signal.SIGSTOP)  # its kernel takes the connection all the same
        stop = threading.Event()
        threading.Timer(0.3, stop.set).start()
        began = time.monotonic()
        with pytest.raises(Stopped):
            hear(recogniser, ENDLESS, stop)
        assert time.monotonic() - began < 1.3
        assert connections(peer) == 0


def test_a_busy_server_does_not_hold_up_its_answer_by_closing_late() -> None:
    with funasr_peer("offline", fault="lingers") as peer, asking(peer.url) as recogniser:
        began = time.monotonic()
        assert hear(recogniser).text == "heard 16000 samples"
        assert time.monotonic() - began < 1
