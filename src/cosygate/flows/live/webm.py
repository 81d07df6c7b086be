"""A browser's webm stream on its way to an engine: its bytes are decoded from the first one on, whenever a call begins
(a container cannot be entered in the middle), and what lies before the call's first sample is left out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from cosygate.flows.live.session import Session
from cosygate.model.audio import Container
from cosygate.ports.decoder import DecodeRequest, StreamDecoder
from cosygate.ports.engine import Finalize


async def decoded(
    session: Session, decoder: StreamDecoder, *, skip: int, reached: Callable[[int], None]
) -> AsyncIterator[bytes | Finalize]:
    """PCM (s16le, 16 kHz) from sample `skip` on; `reached` is told how far it has come. Raises what the decoder
    raises."""
    left, at = 2 * skip, 0
    async with decoder.stream(_bytes(session), DecodeRequest(Container.MATROSKA)) as decoding:
        async for pcm in decoding.pcm():
            at += len(pcm) // 2
            if left >= len(pcm):
                left -= len(pcm)
                continue
            reached(at)
            yield pcm[left:] if left else pcm
            left = 0


async def _bytes(session: Session) -> AsyncIterator[bytes]:
    """All bytes of the session, as they come, to its end."""
    at = 0
    while not session.gone.is_set():
        if at >= session.timeline.received:
            if session.timeline.ended is not None:
                return
            session.arrived.clear()
            await session.arrived.wait()
            continue
        data = await session.read(at, session.timeline.received)
        at += len(data)
        session.took(at)
        yield data
