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
    model_dir: Path | None = None
    num_threads: int = 1  # that work on one piece
    funasr_url: str = ""
    funasr_mode: str = "offline"
    funasr_languages: tuple[str, ...] = ("zh",)
    funasr_capabilities: tuple[str, ...] = ()
    funasr_ca: Path | None = None
    funasr_timeout_s: float = 60.0


def _moonshine(options: RecogniserOptions) -> Recogniser:
    from cosygate.engine.recognisers.moonshine import Moonshine

    return Moonshine.load(slots=options.slots)


def _command(options: RecogniserOptions) -> Recogniser:
    from cosygate.engine.recognisers.command import Command

    return Command(options.command, timeout_s=options.command_timeout_s)


def _scripted(options: RecogniserOptions) -> Recogniser:
    from cosygate.engine.recognisers.scripted import Scripted

    return Scripted.load(options.script)


def _sherpa(options: RecogniserOptions) -> Recogniser:
    from cosygate.engine.recognisers.sherpa.recogniser import Sherpa

    return Sherpa.load(options.model_dir, slots=options.slots, num_threads=options.num_threads)


def _funasr(options: RecogniserOptions) -> Recogniser:
    from cosygate.engine.recognisers.funasr import Funasr

    return Funasr(
        options.funasr_url,
        mode=options.funasr_mode,
        languages=options.funasr_languages,
        capabilities=options.funasr_capabilities,
        ca=options.funasr_ca,
        timeout_s=options.funasr_timeout_s,
    )


RECOGNISERS: dict[str, Callable[[RecogniserOptions], Recogniser]] = {
    "moonshine": _moonshine,
    "sherpa": _sherpa,
    "funasr": _funasr,
    "command": _command,
    "scripted": _scripted,
}
