"""A FunASR runtime that is already installed somewhere, through its WebSocket protocol: offline or 2pass.

One connection for each piece of speech, as FunASR's own clients have one for each file: its servers keep hot words and
what they heard as long as a connection lasts.

    opening (JSON) → PCM in frames → {"is_speaking": false} → answers (JSON) → close

The protocol cannot be asked what the server's models can do: the operator says it.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import threading
from collections.abc import Sequence
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidURI, WebSocketException
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from cosygate.engine.recognisers.base import (
    RATE,
    CannotStart,
    Hints,
    Model,
    Recognised,
    RecogniserError,
    Samples,
    Stopped,
    Transient,
)
from cosygate.engine.recognisers.funasr_answers import ANSWER_MAX, MODES, Answers

CAPABILITIES = ("words", "language", "emotion", "events", "punctuation", "itn", "hotwords")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}")
_CONNECT_S = 5.0  # until the server has taken the connection
_FAREWELL_S = 0.2  # for the server's part of closing it: one that is busy is not waited for
_LOOK_EVERY_S = 0.05  # for a caller that left
_CHUNKS = {"chunk_size": [5, 10, 5], "chunk_interval": 10}  # of all examples; asked for by 2pass and the Python server
_FRAME = RATE * 60 // 1000 * 2  # bytes: 60 ms, which those chunks make; the Python server takes no other
_WEIGHT = 20  # of a hot word: FunASR's example


class Funasr:
    name = "funasr"
    cut_s: float | None = None
    instant = False

    def __init__(
        self,
        url: str,
        *,
        mode: str = "offline",
        languages: Sequence[str] = ("zh",),
        capabilities: Sequence[str] = (),
        ca: Path | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        """`languages`, `capabilities`: what the server's models know and tell. `ca`: vouches for a wss:// server; None:
        the system's authorities do. `timeout_s`: what one piece may take. Raises CannotStart; that the server is not
        there is no reason, it may come later."""
        try:
            uri = parse_uri(url)
        except (InvalidURI, ValueError):
            raise CannotStart(
                "the funasr recogniser needs the address of a runtime, for example --funasr-url ws://host:10095"
            ) from None
        if mode not in MODES:
            raise CannotStart(f"there is no --funasr-mode {mode}; there is {', '.join(MODES)}")
        if not languages or not all(map(_LANGUAGE.fullmatch, languages)):
            raise CannotStart("--funasr-languages are BCP 47 tags with commas between, for example zh,en")
        if unknown := set(capabilities) - set(CAPABILITIES):
            known = ", ".join(CAPABILITIES)
            raise CannotStart(f"--funasr-capabilities are of {known}, not {', '.join(sorted(unknown))}")
        if ca is not None and not uri.secure:
            raise CannotStart("--funasr-ca takes a wss:// address")
        self.version = f"websocket {mode}"
        self.models: tuple[Model, ...] = (Model("funasr", tuple(languages), tuple(capabilities)),)
        self.limit_s: float | None = timeout_s
        self._url, self._where = url, f"{uri.host}:{uri.port}"
        self._mode = mode
        self._tls = _trust(ca) if uri.secure else None
        # Conversations run on a loop of their own: there each can be given up in the middle of whatever it waits for.
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="funasr", daemon=True)
        self._thread.start()

    def recognise(self, samples: Samples, hints: Hints, stop: threading.Event) -> Recognised:
        asking = asyncio.run_coroutine_threadsafe(self._ask(samples, hints), self._loop)
        while not wait({asking}, _LOOK_EVERY_S).done:
            if stop.is_set():
                asking.cancel()
                raise Stopped
        return asking.result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._runner.close()

    async def _ask(self, samples: Samples, hints: Hints) -> Recognised:
        answers = Answers(self._mode, hints.features, events="events" in self.models[0].capabilities)
        limit = asyncio.timeout(self.limit_s)
        try:
            async with limit, self._connection() as server:
                try:
                    await self._say(server, samples, hints)
                    while not answers.take(await server.recv()):
                        pass
                except BaseException:
                    server.transport.abort()  # closing would wait until the server has taken what is on its way
                    raise
        except TimeoutError:
            if limit.expired():
                raise RecogniserError(f"FunASR at {self._where} took longer than {self.limit_s:g} s") from None
            raise Transient(f"FunASR at {self._where} does not take connections") from None
        except (OSError, WebSocketException) as error:
            # Who closed it: it breaks, or the server has restarted; or we did, because of what it sent.
            if isinstance(error, ConnectionClosed) and error.sent is not None and not error.rcvd_then_sent:
                raise RecogniserError(f"FunASR at {self._where} sends what it may not: {error}") from None
            raise Transient(f"FunASR at {self._where}: {error}") from None
        return answers.recognised(len(samples) / RATE)

    def _connection(self) -> connect:
        return connect(
            self._url,
            ssl=self._tls,
            subprotocols=[Subprotocol("binary")],  # the Python server takes no client without
            compression=None,
            proxy=None,  # audio goes where the operator says, whatever the environment has
            open_timeout=_CONNECT_S,
            close_timeout=_FAREWELL_S,
            ping_interval=None,  # a server at work does not answer them
            max_size=ANSWER_MAX,
        )

    async def _say(self, server: ClientConnection, samples: Samples, hints: Hints) -> None:
        await server.send(json.dumps(self._opening(hints), ensure_ascii=False))
        pcm = (np.clip(samples, -1, 32767 / 32768) * 32768).astype("<i2").tobytes()
        for at in range(0, len(pcm), _FRAME):
            await server.send(pcm[at : at + _FRAME])
        await server.send(json.dumps({"is_speaking": False, "is_end": True}))

    def _opening(self, hints: Hints) -> dict[str, Any]:
        opening: dict[str, Any] = {"mode": self._mode, "wav_name": "cosygate", "wav_format": "pcm", "audio_fs": RATE}
        opening |= {"is_speaking": True, "svs_lang": hints.language.lower().partition("-")[0], **_CHUNKS}
        if "itn" in self.models[0].capabilities:
            opening["itn"] = opening["svs_itn"] = "itn" in hints.features
        if hints.hotwords:
            opening["hotwords"] = json.dumps(dict.fromkeys(hints.hotwords, _WEIGHT), ensure_ascii=False)
        return opening


def _trust(ca: Path | None) -> ssl.SSLContext:
    """Raises CannotStart."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if ca is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(ca)
    except OSError as error:
        raise CannotStart(f"--funasr-ca {ca} cannot be used: {error}") from None
    return context
