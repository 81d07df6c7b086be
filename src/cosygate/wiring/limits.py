"""Settings as the limits that flows take."""

from __future__ import annotations

from cosygate.flows.live.desk import LiveLimits
from cosygate.model.upload import UploadLimits
from cosygate.settings import Settings


def upload_limits(settings: Settings) -> UploadLimits:
    return UploadLimits(
        chunk_bytes=settings.chunk_max_bytes,
        recording_bytes=settings.recording_max_bytes,
        parts=settings.recording_max_parts,
        open_per_owner=settings.open_uploads,
        expires_s=settings.upload_expiry_hours * 3600,
    )


def live_limits(settings: Settings) -> LiveLimits:
    return LiveLimits(
        sessions=settings.live_sessions,
        sessions_each=settings.live_sessions_each,
        window_s=settings.live_window_s,
    )
