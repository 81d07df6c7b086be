"""What can go wrong with a live session (docs/live.md)."""

from __future__ import annotations

from cosygate.errors.families import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Refused,
    TooLarge,
    Unavailable,
)


class LiveProtocol(Invalid):
    code, title = "live_protocol", "A live message that is not valid, or not at this point"


class LiveFrameInvalid(LiveProtocol):
    code, title = "live_frame_invalid", "An audio frame that cannot be used"


class LiveGap(LiveProtocol):
    code, title = "gap", "Audio is missing before this frame"


class OriginForbidden(Forbidden):
    code, title = "origin_forbidden", "This page may not open live sessions here"


class SessionNotFound(NotFound):
    code, title = "session_not_found", "There is no such live session"


class TakenOver(Conflict):
    code, title, close_code = "taken_over", "Another connection continues this live session", 4409


class LiveTooLong(TooLarge):
    code, title = "live_too_long", "The live session is as long as one may be"


class TooManySessions(Refused):
    code, title = "too_many_sessions", "Too many live sessions are open"


class LiveIdle(Refused):
    code, title, status, close_code = "live_idle", "Nothing arrived on the live connection for too long", 408, 4408


class ReaderTooSlow(Refused):
    code, title, status, close_code = "reader_too_slow", "The live connection was not read from for too long", 408, 4008


class SessionsFull(Unavailable):
    code, title = "sessions_full", "No more live sessions can be taken now"
