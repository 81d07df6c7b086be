"""One gRPC call to an engine, whatever travels in it: how it is read, how it ends, and what that means."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar, cast

import grpc

from cosygate.adapters.engine_grpc.status import translate
from cosygate.proto import speech_engine_pb2 as pb

_WRITE_FAILED = "Internal error from Core"  # _AioCall.set_internal_error in grpc's aio/call.pyx.pxi
_STATUS_WAIT_S = 2.0  # between a failed write and the status that explains it
T = TypeVar("T")


class Exchange:
    """For one reader and one writer."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self.accepted = False  # the engine has taken the call: from then on its death may be the audio's fault
        self._fault: BaseException | None = None  # why we cancelled the call ourselves
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[tuple[grpc.StatusCode, str]] = loop.create_future()
        call.add_done_callback(self._note_status)

    async def begin(self, config: pb.RecognizeConfig) -> None:
        """Raises as `read` does."""
        await self._calling(self._call.write(pb.RecognizeRequest(config=config)))

    async def read(self) -> pb.RecognizeEvent | None:
        """None at the end of a call that went well; raises the error that its end means, or the fault of `cancel`."""
        event: pb.RecognizeEvent = await self._calling(self._call.read())
        if event is not grpc.aio.EOF:
            return event
        code, details = await self._status()
        if code is not grpc.StatusCode.OK:
            raise translate(code, details, accepted=self.accepted)
        return None

    def cancel(self, fault: BaseException) -> None:
        """The reader hears `fault`."""
        self._fault = fault
        self._call.cancel()

    async def _calling(self, step: Awaitable[Any]) -> Any:
        """One read or write, its error as ours."""
        try:
            return await step
        except grpc.aio.AioRpcError as error:
            code, details = await self._status()
            raise translate(code, details, accepted=self.accepted) from error
        except asyncio.CancelledError:
            if self._fault is not None:  # it is the call that was cancelled, by us, and not this task
                raise self._fault from None
            raise

    async def _status(self) -> tuple[grpc.StatusCode, str]:
        """How the engine ended the call."""
        await asyncio.wait({self._ended}, timeout=_STATUS_WAIT_S)
        return self._ended.result() if self._ended.done() else (grpc.StatusCode.UNKNOWN, "")

    def _note_status(self, call: Any) -> None:
        """Called once or twice: a write that fails because the engine has ended the call makes grpc.aio put a status
        of its own before, or over, the engine's. So it is taken at the moment it is there."""
        code, details = _at_once(call.code()), _at_once(call.details())
        if details != _WRITE_FAILED and not self._ended.done():
            self._ended.set_result((code, details or ""))


def _at_once(ready: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that has nothing to wait for."""
    try:
        ready.send(None)
    except StopIteration as stop:
        return cast("T", stop.value)
    ready.close()
    raise RuntimeError("grpc told that a call is over before it was")
