"""A FunASR runtime as far as its WebSocket protocol goes, in a process of its own.

It hears how much audio came, or what its script says, and answers as one of FunASR's three servers does; or it fails
as its script says. `python -m tests.support.funasr_peer SCRIPT LOG` prints `ready PORT`, and notes in LOG what came.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.support.certificates import Pair
from tests.support.faults import wait_for

KINDS = ("offline", "2pass", "python")  # of FunASR's servers: websocket-server{,-2pass}.cpp, funasr_wss_server.py
FAULTS = ("never", "deaf", "cut", "close", "garbage", "binary", "huge", "flood", "slow", "lingers")
ONLINE_EVERY = 10  # frames that the 2pass server hears before it says something


@dataclass(frozen=True)
class Peer:
    url: str
    pid: int
    log: Path

    def conversations(self, count: int = 1) -> list[dict[str, Any]]:
        """What was sent in each that has ended, at least so many: opening, frames, bytes, sha256, end."""

        def ended() -> list[dict[str, Any]] | None:
            found = [json.loads(line) for line in self.log.read_text().splitlines()]
            return found if len(found) >= count else None

        return wait_for(ended, f"{count} conversations")


@contextlib.contextmanager
def funasr_peer(
    kind: str = "offline", *, tls: Pair | None = None, host: str = "127.0.0.1", **script: Any
) -> Iterator[Peer]:
    """Until the block ends. `script`: `results`, what is heard of each piece (members of the answers); `fault`, one of
    FAULTS, in the first `faults` conversations (all, if it is not said); `delay_s`, before the answers."""
    with tempfile.TemporaryDirectory(prefix="funasr-peer-") as folder:
        log = Path(folder) / "log"
        log.touch()
        whole = {"kind": kind, **script, **({"cert": str(tls.cert), "key": str(tls.key)} if tls else {})}
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.funasr_peer", json.dumps(whole), str(log)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        try:
            assert process.stdout is not None
            ready, port = process.stdout.readline().split()
            assert ready == "ready"
            yield Peer(f"{'wss' if tls else 'ws'}://{host}:{port}", process.pid, log)
        finally:
            process.kill()
            process.communicate()


class _Runtime:
    def __init__(self, script: dict[str, Any], log: Path) -> None:
        self.kind: str = script["kind"]
        self.results: list[dict[str, Any]] | None = script.get("results")
        self.fault: str = script.get("fault", "")
        self.faults: int = script.get("faults", sys.maxsize)
        self.delay_s: float = script.get("delay_s", 0.0)
        assert self.kind in KINDS
        assert self.fault in ("", *FAULTS)
        self.log = log

    async def serve(self, client: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            await self._converse(client)

    async def _converse(self, client: ServerConnection) -> None:
        fault = self.fault if self.faults > 0 else ""
        self.faults -= 1
        if fault == "deaf":
            await client.wait_closed()
        opening: dict[str, Any] = {}
        pcm, frames, end = bytearray(), 0, None
        async for message in client:
            if isinstance(message, bytes):
                pcm += message
                frames += 1
                if fault == "cut" and frames == 3:
                    client.transport.abort()
                if self.kind == "2pass" and frames % ONLINE_EVERY == 0:
                    await self._answer(client, opening, mode="2pass-online", text="partly", is_final=False)
            elif json.loads(message).get("is_speaking") is False:
                end = json.loads(message)
                noted = {"opening": opening, "frames": frames, "bytes": len(pcm), "end": end}
                noted["sha256"] = hashlib.sha256(pcm).hexdigest()
                with self.log.open("a") as log:
                    log.write(json.dumps(noted) + "\n")
                await asyncio.sleep(self.delay_s)
                if fault in ("", "lingers"):
                    await self._tell(client, opening, bytes(pcm), end)
                if fault:
                    await getattr(self, f"_{fault}")(client)
            else:
                opening = json.loads(message)

    async def _tell(self, client: ServerConnection, opening: dict[str, Any], pcm: bytes, end: dict[str, Any]) -> None:
        results = self.results
        if results is None:
            results = [{"text": f"heard {len(pcm) // 2} samples"}]
        if self.kind == "offline":
            (result,) = results
            await self._answer(client, opening, mode="offline", is_final=False, **result)
        elif self.kind == "2pass":
            for number, result in enumerate(results, 1):
                mode = {"mode": "2pass-offline"} if result["text"] else {}
                await self._answer(client, opening, is_final=number == len(results), **mode, **result)
        else:
            chunked = opening.get("chunk_size") and opening.get("chunk_interval")
            mode = "2pass-offline" if opening["mode"] == "2pass" else opening["mode"]
            for result in results if chunked else []:
                await self._answer(
                    client, opening, mode=mode, is_final=True, spk_name="unknown", spk_score=0.0, **result
                )
            if end.get("is_end"):
                error = {} if chunked else {"error": "audio frame discarded: chunk_size is not configured"}
                await self._answer(client, opening, mode=opening["mode"], is_final=not error, is_end=True, **error)

    async def _answer(self, client: ServerConnection, opening: dict[str, Any], **members: Any) -> None:
        await client.send(json.dumps({"wav_name": opening.get("wav_name"), **members}))

    # --- faults -----------------------------------------------------------------------------------------------------

    async def _never(self, client: ServerConnection) -> None:
        await client.wait_closed()

    async def _cut(self, client: ServerConnection) -> None:
        client.transport.abort()

    async def _close(self, client: ServerConnection) -> None:
        await client.close()

    async def _garbage(self, client: ServerConnection) -> None:
        await client.send("<html>")

    async def _binary(self, client: ServerConnection) -> None:
        await client.send(b"\xff\xfe\x00")

    async def _huge(self, client: ServerConnection) -> None:
        await client.send(json.dumps({"mode": "offline", "is_final": False, "text": "x" * (1 << 20)}))

    async def _flood(self, client: ServerConnection) -> None:
        while True:
            await client.send(json.dumps({"mode": "offline", "is_final": True, "text": "x" * 10_000}))

    async def _slow(self, client: ServerConnection) -> None:
        """Says something now and then, and never the last of it."""
        while True:
            await client.send(json.dumps({"mode": "offline", "is_final": True, "text": "x"}))
            await asyncio.sleep(0.05)

    async def _lingers(self, client: ServerConnection) -> None:
        """At work for somebody else, in the one thread that there is."""
        time.sleep(3)


async def _main(script: dict[str, Any], log: Path) -> None:
    tls = None
    if "cert" in script:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(script["cert"], script["key"])
    runtime, parent = _Runtime(script, log), os.getppid()
    # As FunASR's Python server is started: no client is taken that does not speak "binary".
    async with serve(
        runtime.serve,
        "127.0.0.1",
        0,
        subprotocols=["binary"],
        ping_interval=None,
        ssl=tls,  # type: ignore[list-item]
    ) as server:
        print("ready", next(iter(server.sockets)).getsockname()[1], flush=True)
        while os.getppid() == parent:  # its tests may be killed
            await asyncio.sleep(0.5)


if __name__ == "__main__":
    asyncio.run(_main(json.loads(sys.argv[1]), Path(sys.argv[2])))
