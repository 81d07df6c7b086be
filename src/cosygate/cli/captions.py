"""Captions in a terminal: the partial pale and overwritten in place, finals fixed with their time. In a pipe, finals
alone, one a line. Who speaks stands before what is said, where that is told."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TextIO

from rich.cells import cell_len

from cosygate.client import Disconnected, Done, Final, Gap, LiveEvent, Partial, Reconnected

_CLEAR, _PALE, _PLAIN = "\r\x1b[K", "\x1b[2m", "\x1b[22m"
_NARROWEST = 10  # columns; in less, no partial can be read


def _columns(out: TextIO) -> Callable[[], int]:
    def columns() -> int:
        try:
            return os.get_terminal_size(out.fileno()).columns or 80
        except (OSError, ValueError):
            return 80

    return columns


class Captions:
    """`show` what the session tells, from one thread at a time."""

    def __init__(
        self,
        out: TextIO | None = None,
        err: TextIO | None = None,
        *,
        partials: bool = True,
        terminal: bool | None = None,
        columns: Callable[[], int] | None = None,
    ) -> None:
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._terminal = self._out.isatty() and os.environ.get("TERM") != "dumb" if terminal is None else terminal
        self._columns = columns or _columns(self._out)
        self.partials = partials and self._terminal  # whether they are worth asking for
        self._partial: Partial | None = None

    def show(self, event: LiveEvent) -> None:
        match event:
            case Partial():
                self._partial = event
                if self.partials:
                    self._passing(f"{_clock(event.start)}  {_line(event.text)}")
            case Final():
                self._final(event)
            case Gap():
                self._clear()
                why = f" ({event.code})" if event.code else ""
                self._say(f"{event.end - event.start:.1f} s of sound from {_clock(event.start)} on are lost{why}")
            case Disconnected():
                self._passing("… connecting again; nothing is lost yet")
            case Reconnected() | Done():
                self._clear()
            case _:
                pass

    def close(self) -> None:
        """Leaves no half line behind."""
        self._clear()

    def _final(self, final: Final) -> None:
        text = _line(final.text)
        if text and final.speaker:
            text = f"{_line(final.speaker)}: {text}"
        if not self._terminal:
            if text:
                self._write(f"{text}\n")
            return
        if text:
            self._write(f"{_CLEAR}{_clock(final.start)}  {text}\n")
        pending, self._partial = self._partial, None
        if pending is not None and pending.start > final.end:  # it is of a later utterance
            self.show(pending)
        elif not text:
            self._clear()

    def _passing(self, text: str) -> None:
        """Never longer than a line, which could not be overwritten; its end is what is new."""
        if self._terminal and (width := self._columns() - 1) >= _NARROWEST:
            self._write(f"{_CLEAR}{_PALE}{_tail(text, width)}{_PLAIN}")

    def _clear(self) -> None:
        if self._terminal:
            self._write(_CLEAR)

    def _say(self, text: str) -> None:
        self._err.write(f"cosygate: {text}\n")
        self._err.flush()

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def _line(text: str) -> str:
    """One line, without anything that a terminal would obey."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"


def _tail(text: str, width: int) -> str:
    """As much of its end as fits into `width` columns, after … if something is missing."""
    if cell_len(text) <= width:
        return text
    left, at = width - 1, len(text)
    while at > 0 and (left := left - cell_len(text[at - 1])) >= 0:
        at -= 1
    return "…" + text[at:]
