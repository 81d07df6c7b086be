"""The child's end of a recording that is still being made: a pipe in place of a file.

FFmpeg reads through a buffer of one byte, which makes it ask for exactly what it needs next: one byte of a header, the
whole of a packet. So it never waits for more than the audio that it is about to give, and how the bytes were cut on
their way here has no influence on anything, not even on where it picks up again behind damage: the same bytes give the
same samples.
"""

from __future__ import annotations

import os

from cosygate import errors

PIPE_BYTES = 16 * 1024  # of the pipe; bounds what the gateway is ahead of the child
MAX_SILENT_BYTES = 256 * 1024  # without a decoded sample in them: a picture's worth


class StreamSource:
    """A child.Input without `seek`."""

    buffer_bytes = 1
    probe_bytes = 32  # the least: to find out a picture's frame rate, it would hold back seconds of sound

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._held = b""
        self._at = 0  # in `_held`, as the next one
        self._stop = MAX_SILENT_BYTES

    def heard(self) -> None:
        self._stop = self._at + MAX_SILENT_BYTES

    def read(self, length: int) -> bytes:
        """Waits until there are so many bytes; fewer come only at the end. Raises MediaUndecodable, and at once when a
        header claims a packet that is too large."""
        if self._at + length > self._stop:
            raise errors.MediaUndecodable(f"there is no audio in {MAX_SILENT_BYTES // 1024} KiB of the stream")
        while self._at + length > len(self._held):
            more = os.read(self._fd, PIPE_BYTES)
            if not more:
                break
            self._held = self._held[self._at :] + more
            self._at, self._stop = 0, self._stop - self._at
        taken = self._held[self._at : self._at + length]
        self._at += len(taken)
        return taken
