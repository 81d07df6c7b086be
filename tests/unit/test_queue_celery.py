"""Hints when the broker takes the connection, greets, and then says nothing more: nobody waits for it for long."""

from __future__ import annotations

import asyncio
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from cosygate.adapters.queue_celery import CeleryBroker, make_app

_Method = tuple[int, int]  # class and number (AMQP 0-9-1)
TUNE_OK, OPEN, OPEN_CHANNEL, DECLARE = (10, 31), (10, 40), (20, 10), (40, 10)


def method(channel: int, name: _Method, arguments: bytes) -> bytes:
    payload = struct.pack(">HH", *name) + arguments
    return struct.pack(">BHI", 1, channel, len(payload)) + payload + b"\xce"


def long_text(text: bytes) -> bytes:
    return struct.pack(">I", len(text)) + text


START = method(0, (10, 10), b"\0\x09" + bytes(4) + long_text(b"PLAIN") + long_text(b"en_US"))
ANSWERS = {
    (10, 11): method(0, (10, 30), struct.pack(">HIH", 0, 131_072, 0)),  # tune
    OPEN: method(0, (10, 41), b"\0"),
    OPEN_CHANNEL: method(1, (20, 11), bytes(4)),
}


class Mute:
    """An AMQP broker that answers nothing once a channel is open."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"amqp://guest:guest@127.0.0.1:{self._listener.getsockname()[1]}//"
        self.connections: list[list[_Method]] = []  # what each asked
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            asked: list[_Method] = []
            self.connections.append(asked)
            threading.Thread(target=self._talk, args=(connection, asked), daemon=True).start()

    def _talk(self, connection: socket.socket, asked: list[_Method]) -> None:
        with connection, connection.makefile("rb") as stream:
            stream.read(8)
            connection.sendall(START)
            while head := stream.read(7):
                name: _Method = struct.unpack(">HH", stream.read(struct.unpack(">BHI", head)[2] + 1)[:4])
                asked.append(name)
                connection.sendall(ANSWERS.get(name, b""))

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def mute() -> Iterator[Mute]:
    broker = Mute()
    yield broker
    broker.close()


async def test_a_broker_that_stops_answering_is_left_and_asked_anew(mute: Mute) -> None:
    broker = CeleryBroker(make_app(mute.url, answer_s=0.3))
    began = time.monotonic()
    assert not await broker.publish(["a"], low=False)
    assert time.monotonic() - began < 1.5
    async with asyncio.timeout(5):
        while len(mute.connections) < 2:
            await broker.publish(["a"], low=False)
            await asyncio.sleep(0.05)
    assert DECLARE in mute.connections[0]
    await broker.close()
    assert broker._sending is not None
    await asyncio.wait({broker._sending}, timeout=5)
    assert broker._sending.done()


SCRIPT = """
import asyncio, sys
from cosygate.adapters.queue_celery import CeleryBroker, make_app

async def main():
    broker = CeleryBroker(make_app(sys.argv[1], answer_s=60))
    assert not await broker.publish(["a"], low=False)
    await broker.close()

asyncio.run(main())
print("closed", flush=True)
"""


def test_a_broker_that_hangs_does_not_hold_up_the_end_of_the_process(mute: Mute) -> None:
    with subprocess.Popen([sys.executable, "-c", SCRIPT, mute.url], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert any(line == "closed\n" for line in process.stdout)
            assert process.wait(5) == 0
        finally:
            process.kill()
