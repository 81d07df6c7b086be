"""Every recogniser there is, by name: add yours here. Each is imported only when it is asked for (models are heavy)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cosygate.engine.recognisers.base import Recogniser


@dataclass(frozen=True, slots=True)
class RecogniserOptions:
    """What the command line of the engine says."""

    slots: int = 1  # calls at once
    command: str = ""
    command_timeout_s: float = 120.0
    script: Path | None = None


def _moonshine(options: RecogniserOptions) -> Recogniser:
    from cosygate.engine.recognisers.moonshine import Moonshine

    return Moonshine.load(slots=options.slots)


def _command(options: RecogniserOptions) -> Recogniser:
    from cosygate.engine.recognisers.command import Command

    return Command(options.command, timeout_s=options.command_timeout_s)


def _scripted(options: RecogniserOptions) -> Recogniser:
    from cosygate.engine.recognisers.scripted import Scripted

    return Scripted.load(options.script)


RECOGNISERS: dict[str, Callable[[RecogniserOptions], Recogniser]] = {
    "moonshine": _moonshine,
    "command": _command,
    "scripted": _scripted,
}
