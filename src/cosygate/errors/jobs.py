"""How a job ends whose recording cannot be transcribed."""

from __future__ import annotations

from cosygate.errors.families import RecordingFailed


class MediaUndecodable(RecordingFailed):
    code, title = "media_undecodable", "The recording cannot be decoded"


class MediaNoAudio(RecordingFailed):
    code, title = "media_no_audio", "The recording has no audio stream"


class MediaTooLong(RecordingFailed):
    code, title = "media_too_long", "The recording is longer than allowed"


class MediaLimits(RecordingFailed):
    code, title = "media_limits", "The recording's rate, channels or streams are beyond what is allowed"


class EngineRefused(RecordingFailed):
    code, title = "engine_refused", "The engine refused the recording"


class DecoderDied(RecordingFailed):
    code, title, counts = "decoder_died", "The decoder died on this recording", True


class DecoderTimeout(RecordingFailed):
    code, title, counts = "decoder_timeout", "The decoder took too long on this recording", True


class EngineFailed(RecordingFailed):
    """`gone`: its process is gone, which ends every call that it had."""

    code, title, counts = "engine_failed", "The engine failed on this recording", True
    gone = False


class LostTooOften(RecordingFailed):
    code, title = "lost_too_often", "The job lost its worker too often"
