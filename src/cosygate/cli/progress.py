"""Two bars a recording, on a terminal's stderr: sending and recognising. Elsewhere, nothing."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from cosygate.client import Event


class Bars:
    """Show `sent` and `event` what the client reports; `next_file` begins a new pair of bars."""

    def __init__(self, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._sending: TaskID | None = None
        self._recognising: TaskID | None = None
        self._name = ""

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._progress.stop()

    def next_file(self, name: str) -> None:
        self._name = "".join(c for c in name if c.isprintable()).replace("[", r"\[")
        self._sending = self._recognising = None

    def sent(self, sent: int, total: int) -> None:
        if self._sending is None:
            self._sending = self._progress.add_task(f"{self._name}  sending", total=max(total, 1), note="")
        self._progress.update(self._sending, completed=sent, note=f"{decimal(sent)} of {decimal(total)}")

    def event(self, event: Event) -> None:
        if self._recognising is None:
            self._recognising = self._progress.add_task(f"{self._name}  recognising", total=100, note="")
        if event.kind == "done":
            self._progress.update(self._recognising, completed=100)
        elif event.percent is not None:
            self._progress.update(self._recognising, completed=event.percent)
