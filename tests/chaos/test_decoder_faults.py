"""Decoders that are killed or run out of memory: the recording fails with its stable code, the others go on."""

from __future__ import annotations

import signal
import struct
import time
from pathlib import Path

import numpy as np
import psutil

from tests.support import media
from tests.support.faults import Victim, submit, wait_for
from tests.support.server import wait_task


def decoders(victim: Victim) -> list[psutil.Process]:
    """The children that decode now: what the fork-server has forked."""
    return [child for server in victim.find("decoder_sandbox.forkserver") for child in server.children()]


def test_a_decoder_killed_three_times_fails_its_recording_alone(data_dir: Path) -> None:
    """As the kernel does when memory runs out: SIGKILL, whatever it was doing."""
    doomed_audio = media.flac_bomb(minutes=3)  # more than pipes and engine take in at once: its decoder stays
    good_audio = media.encode("ogg-opus", media.tone(1.0, 48_000))
    with Victim(data_dir, script={"delay_s": 0.5}) as victim, victim.http() as http:
        doomed = submit(http, "doomed", doomed_audio)
        killed: set[int] = set()
        for attempt in range(3):
            child = wait_for(lambda: next((c for c in decoders(victim) if c.pid not in killed), None), "a decoder")
            victim.wait_state(doomed, "running")
            killed.add(child.pid)
            child.send_signal(signal.SIGKILL)
            if attempt < 2:
                wait_for(lambda: victim.job(doomed)["attempt"] == len(killed), "the counted attempt")
        began = time.monotonic()
        task = wait_task(http, doomed)
        assert (task["state"], task["error"]["code"]) == ("failed", "decoder_died")
        assert time.monotonic() - began < 5
        assert victim.job(doomed)["attempt"] == 3
        assert wait_task(http, submit(http, "good", good_audio))["state"] == "succeeded"
        assert decoders(victim) == []


def greedy() -> bytes:
    """ALAC that says its frames are 12 Mi samples long: the decoder makes six buffers for that before it decodes one.
    The field is the first of the codec's own box (ALACMagicCookieDescription.txt in Apple's reference code)."""
    audio = bytearray(media.encode_as("ipod", "alac", 44_100, np.repeat(media.tone(1.0, 44_100)[:, None], 2, axis=1)))
    struct.pack_into(">I", audio, audio.rindex(b"alac") + 8, 12 << 20)
    return bytes(audio)


def test_a_decoding_beyond_its_memory_fails_alone(data_dir: Path) -> None:
    with Victim(data_dir, decoder_memory_bytes=256 << 20) as victim, victim.http() as http:
        formats = ("flac", "ogg-opus", "m4a")
        audio = {name: media.encode(name, media.tone(1.0, media.ENCODED[name][2])) for name in formats}
        before = [submit(http, f"before-{name}", audio[name]) for name in formats]
        doomed = submit(http, "doomed", greedy())
        after = [submit(http, f"after-{name}", audio[name]) for name in formats]
        task = wait_task(http, doomed)
        assert (task["state"], task["error"]["code"]) == ("failed", "decoder_died")
        assert victim.job(doomed)["attempt"] == 3
        for task_id in before + after:
            assert wait_task(http, task_id)["state"] == "succeeded"
            assert victim.job(task_id)["attempt"] == 0
