"""What a gRPC status means: one table, walked by a test."""

from __future__ import annotations

import grpc

from cosygate import errors

_DETAIL_MAX = 200
_S = grpc.StatusCode
# What a status means before the engine accepted the call, and after. A process that dies looks like UNAVAILABLE; one
# that shuts down in an orderly way says ABORTED. Only what this recording may have caused costs it an attempt.
STATUS_ERRORS: dict[grpc.StatusCode, tuple[type[errors.CosyGateError], type[errors.CosyGateError]]] = {
    _S.INVALID_ARGUMENT: (errors.EngineRefused, errors.EngineRefused),
    _S.OUT_OF_RANGE: (errors.EngineRefused, errors.EngineRefused),
    _S.FAILED_PRECONDITION: (errors.EngineRefused, errors.EngineRefused),
    _S.RESOURCE_EXHAUSTED: (errors.EngineBusy, errors.EngineBusy),
    _S.UNAVAILABLE: (errors.EngineUnavailable, errors.EngineFailed),
    _S.DEADLINE_EXCEEDED: (errors.EngineUnavailable, errors.EngineFailed),
    _S.CANCELLED: (errors.EngineUnavailable, errors.EngineFailed),
    _S.ABORTED: (errors.EngineLeaving, errors.EngineLeaving),
    _S.UNIMPLEMENTED: (errors.EngineUnavailable, errors.EngineUnavailable),
    _S.UNAUTHENTICATED: (errors.EngineUnavailable, errors.EngineUnavailable),
    _S.PERMISSION_DENIED: (errors.EngineUnavailable, errors.EngineUnavailable),
    _S.NOT_FOUND: (errors.EngineFailed, errors.EngineFailed),
    _S.ALREADY_EXISTS: (errors.EngineFailed, errors.EngineFailed),
    _S.DATA_LOSS: (errors.EngineFailed, errors.EngineFailed),
    _S.INTERNAL: (errors.EngineFailed, errors.EngineFailed),
    _S.UNKNOWN: (errors.EngineFailed, errors.EngineFailed),
}


def translate(code: grpc.StatusCode, details: str | None, *, accepted: bool) -> errors.CosyGateError:
    """Only a refusal carries the engine's own words: they are for the client."""
    error = STATUS_ERRORS[code][accepted]
    if error is errors.EngineRefused and details:
        return error("".join(c for c in details if c.isprintable())[:_DETAIL_MAX])
    ended = error()
    if isinstance(ended, errors.EngineUnavailable | errors.EngineFailed):
        ended.gone = code is _S.UNAVAILABLE
    return ended
