"""Every error CosyGate can answer with: the tree on top, one class a code.

    CosyGateError
    ├── Invalid 400/422         what was sent is wrong; sending it again will not help
    ├── Unauthenticated 401     who is calling is not known
    ├── Forbidden 403           known, but without the scope
    ├── NotFound 404            does not exist, or is someone else's (indistinguishable)
    ├── Conflict 409            contradicts what is stored
    ├── TooLarge 413            beyond a limit on bytes or parts
    ├── UnsupportedMedia 415    not audio that can be decoded
    ├── Refused 408/429         the caller's own limit or pace
    ├── Unavailable 503/507     the system's state; worth trying again later
    └── RecordingFailed         how a job ends when its recording cannot be transcribed

`code` is stable and documented in docs/errors.md (a test holds the two together). `status` is what REST answers,
`close_code` what a live socket is closed with, `retryable` tells a client whether the same request may succeed later.
The message (`detail`) is for the client: it never carries a path, a secret, a transcript or a stack.
"""

from __future__ import annotations

from cosygate.errors.editing import TooManyVersions, VersionConflict, VersionNotFound
from cosygate.errors.engines import EngineBusy, EngineLeaving, EngineUnavailable
from cosygate.errors.families import (
    Conflict,
    CosyGateError,
    Forbidden,
    Invalid,
    NotFound,
    RecordingFailed,
    Refused,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
)
from cosygate.errors.guard import (
    BreakerOpen,
    DeliveryNotFound,
    DeliveryPending,
    KeysUnavailable,
    LimitsUnavailable,
    QueueFull,
    QuotaExceeded,
    RetriesSpent,
    TenantQueueFull,
    TokenRevoked,
    WebhookSecretMissing,
)
from cosygate.errors.jobs import (
    DecoderDied,
    DecoderTimeout,
    EngineFailed,
    EngineRefused,
    LostTooOften,
    MediaLimits,
    MediaNoAudio,
    MediaTooLong,
    MediaUndecodable,
)
from cosygate.errors.live import (
    LiveFrameInvalid,
    LiveGap,
    LiveIdle,
    LiveProtocol,
    LiveTooLong,
    OriginForbidden,
    ReaderTooSlow,
    SessionNotFound,
    SessionsFull,
    TakenOver,
    TooManySessions,
)
from cosygate.errors.storage import StorageFull, StorageUnavailable

__all__ = [
    "AudioGone",
    "BodyMalformed",
    "BodyStalled",
    "BreakerOpen",
    "ChunkTooLarge",
    "Conflict",
    "CosyGateError",
    "DatabaseBusy",
    "DecoderDied",
    "DecoderTimeout",
    "DeliveryNotFound",
    "DeliveryPending",
    "DigestInvalid",
    "DigestMismatch",
    "Draining",
    "EngineBusy",
    "EngineFailed",
    "EngineLeaving",
    "EngineRefused",
    "EngineUnavailable",
    "Forbidden",
    "Invalid",
    "KeysUnavailable",
    "LastConflict",
    "LimitsUnavailable",
    "LiveFrameInvalid",
    "LiveGap",
    "LiveIdle",
    "LiveProtocol",
    "LiveTooLong",
    "LostTooOften",
    "MediaLimits",
    "MediaNoAudio",
    "MediaTooLong",
    "MediaUndecodable",
    "NotFound",
    "OptionInvalid",
    "OptionUnsupported",
    "OriginForbidden",
    "PartConflict",
    "QueueFull",
    "QuotaExceeded",
    "RangeInvalid",
    "ReaderTooSlow",
    "RecordingEmpty",
    "RecordingFailed",
    "RecordingTooLarge",
    "Refused",
    "RetriesSpent",
    "SandboxMissing",
    "SeqInvalid",
    "SessionIdInvalid",
    "SessionNotFound",
    "SessionsFull",
    "StorageFull",
    "StorageUnavailable",
    "TakenOver",
    "TaskNotFound",
    "TaskUnfinished",
    "TenantQueueFull",
    "TokenExpired",
    "TokenInvalid",
    "TokenRevoked",
    "TooLarge",
    "TooManyParts",
    "TooManySessions",
    "TooManyStreams",
    "TooManyUploads",
    "TooManyVersions",
    "Unauthenticated",
    "Unavailable",
    "UnsupportedMedia",
    "UploadClosed",
    "UploadNotFound",
    "VersionConflict",
    "VersionNotFound",
    "WebhookSecretMissing",
    "all_errors",
]


# --- Invalid -----------------------------------------------------------------------------------------------------


class BodyMalformed(Invalid):
    code, title, status = "body_malformed", "The body cannot be parsed", 400


class SessionIdInvalid(Invalid):
    code, title = "session_id_invalid", "The session_id is not valid"


class SeqInvalid(Invalid):
    code, title = "seq_invalid", "The seq is not valid"


class OptionInvalid(Invalid):
    code, title = "option_invalid", "An option has a value that is not valid"


class OptionUnsupported(Invalid):
    code, title = "option_unsupported", "An option that nothing here honours"


class DigestInvalid(Invalid):
    code, title, status = "digest_invalid", "The Content-Digest header cannot be used", 400


class DigestMismatch(Invalid):
    code, title = "digest_mismatch", "The bytes do not match their digest"


class RecordingEmpty(Invalid):
    code, title = "recording_empty", "The recording has no bytes"


class RangeInvalid(Invalid):
    code, title, status = "range_not_satisfiable", "The requested range is outside the recording", 416


# --- who is calling ----------------------------------------------------------------------------------------------


class TokenInvalid(Unauthenticated):
    code, title = "token_invalid", "The token is not valid"


class TokenExpired(Unauthenticated):
    code, title = "token_expired", "The token has expired"


# --- NotFound ----------------------------------------------------------------------------------------------------


class TaskNotFound(NotFound):
    code, title = "task_not_found", "There is no such task"


class UploadNotFound(NotFound):
    code, title = "upload_not_found", "There is no such upload"


class AudioGone(NotFound):
    code, title, status = "audio_gone", "The recording has been erased", 410


# --- Conflict ----------------------------------------------------------------------------------------------------


class PartConflict(Conflict):
    code, title = "part_conflict", "This seq holds other bytes already"


class LastConflict(Conflict):
    code, title = "last_conflict", "Another last chunk was named already, or a chunk lies beyond it"


class UploadClosed(Conflict):
    code, title = "upload_closed", "The upload is closed"


class TaskUnfinished(Conflict):
    code, title = "task_unfinished", "The task has no transcript"


# --- TooLarge ----------------------------------------------------------------------------------------------------


class ChunkTooLarge(TooLarge):
    code, title = "chunk_too_large", "The chunk is larger than allowed"


class RecordingTooLarge(TooLarge):
    code, title = "recording_too_large", "The recording is larger than allowed"


class TooManyParts(TooLarge):
    code, title = "too_many_parts", "The recording has more parts than allowed"


# --- UnsupportedMedia --------------------------------------------------------------------------------------------


class SandboxMissing(UnsupportedMedia):
    code, title = "sandbox_missing", "Compressed media is refused: this host has no decoder sandbox"


# --- Refused -----------------------------------------------------------------------------------------------------


class TooManyUploads(Refused):
    code, title = "too_many_uploads", "Too many uploads are open"


class TooManyStreams(Refused):
    code, title = "too_many_streams", "Too many event streams are open"


class BodyStalled(Refused):
    code, title, status = "body_stalled", "The body stopped arriving", 408


# --- Unavailable -------------------------------------------------------------------------------------------------


class DatabaseBusy(Unavailable):
    code, title = "database_busy", "The database is busy"


class Draining(Unavailable):
    code, title, close_code = "draining", "Nothing new is taken now", 1012


def all_errors() -> list[type[CosyGateError]]:
    """Every error class, base first, each once (docs and tests walk it)."""
    found: list[type[CosyGateError]] = []
    todo: list[type[CosyGateError]] = [CosyGateError]
    while todo:
        cls = todo.pop(0)
        found.append(cls)
        todo.extend(cls.__subclasses__())
    return found
