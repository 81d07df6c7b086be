"""The base of all errors, and the families that the tree in __init__.py draws: what they share."""

from __future__ import annotations

from typing import Any, ClassVar


class CosyGateError(Exception):
    """Base of all errors that cross a boundary. `extra` holds problem members beside the standard ones."""

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    status: ClassVar[int] = 500
    close_code: ClassVar[int] = 1011
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str = "", **extra: Any) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.extra = extra


class Invalid(CosyGateError):
    code, title, status, close_code = "invalid_request", "Invalid request", 422, 4400


class Unauthenticated(CosyGateError):
    code, title, status, close_code = "token_missing", "A bearer token is required", 401, 4401


class Forbidden(CosyGateError):
    code, title, status, close_code = "scope_missing", "The token lacks the scope", 403, 4401


class NotFound(CosyGateError):
    code, title, status, close_code = "not_found", "There is nothing here", 404, 4404


class Conflict(CosyGateError):
    code, title, status, close_code = "conflict", "The request contradicts what is stored", 409, 4400


class TooLarge(CosyGateError):
    code, title, status, close_code = "too_large", "The request is too large", 413, 4400


class UnsupportedMedia(CosyGateError):
    code, title, status, close_code = "media_unsupported", "This is not audio that can be decoded here", 415, 4400


class Refused(CosyGateError):
    code, title, status, close_code = "rate_limited", "Too many requests", 429, 4429
    retryable = True


class Unavailable(CosyGateError):
    code, title, status, close_code = "unavailable", "The service cannot answer now", 503, 4503
    retryable = True


class RecordingFailed(CosyGateError):
    """The recording cannot be transcribed. `counts` says whether trying again could help (it then uses an attempt);
    otherwise the job fails at once."""

    code, title, status, close_code = "recording_failed", "The recording cannot be transcribed", 422, 4400
    counts: ClassVar[bool] = False
