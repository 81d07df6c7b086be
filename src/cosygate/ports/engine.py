"""A speech engine, wherever it is: audio in, events out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol

from cosygate.model.transcript import EngineName, Segment


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What one model of an engine can tell. Abilities are data: a missing one is refused by name."""

    name: str
    languages: tuple[str, ...]  # BCP 47; ("*",) when it does not care
    words: bool = False
    speakers: bool = False
    emotion: bool = False
    live: bool = False

    def speaks(self, language: str) -> bool:
        """Whether it takes `language` (BCP 47, compared by primary subtag) or `auto`."""
        primary = language.split("-")[0].lower()
        return language == "auto" or any(tag == "*" or tag.split("-")[0].lower() == primary for tag in self.languages)


@dataclass(frozen=True, slots=True)
class EngineInfo:
    name: str  # of the recogniser family: moonshine, command, scripted
    version: str
    slots: int  # calls at once
    busy: int  # slots taken when it was asked
    models: tuple[ModelInfo, ...]  # the first is the default


@dataclass(frozen=True, slots=True)
class RecogniseConfig:
    language: str = "auto"
    model: str | None = None
    sample_rate: int = 16_000
    features: tuple[str, ...] = ()
    hotwords: tuple[str, ...] = ()
    slot_wait_s: float = 30.0  # how long the engine may let the call wait for a slot
    alone: bool = False  # the engine gives it every slot: it is suspected of ending engines
    trace_id: str = ""


@dataclass(frozen=True, slots=True)
class Accepted:
    slot_wait_ms: int


@dataclass(frozen=True, slots=True)
class Progress:
    samples: int  # everything before this sample is recognised


@dataclass(frozen=True, slots=True)
class SegmentFound:
    """Segments come in the order of their start, ids from 0; times are seconds from the first sample sent."""

    segment: Segment


@dataclass(frozen=True, slots=True)
class Done:
    engine: EngineName
    samples: int  # all that was received
    stats: dict[str, float] = field(default_factory=dict)


EngineEvent = Accepted | Progress | SegmentFound | Done


class Engine(Protocol):
    async def describe(self) -> EngineInfo:
        """Raises EngineUnavailable."""

    def recognise(
        self, config: RecogniseConfig, audio: AsyncIterator[bytes], *, idle_timeout_s: float
    ) -> AsyncIterator[EngineEvent]:
        """Streams PCM (s16le mono at config.sample_rate) and yields Accepted, then Progress and SegmentFound, then
        one Done. Reads `audio` no faster than the engine takes it. Closing the iterator cancels the call.

        `idle_timeout_s`: the longest silence from the engine between two events (or accepted audio); a hung or stopped
        one ends in EngineFailed. Raises EngineBusy (no slot in time), EngineUnavailable (not reachable: costs the
        recording nothing), EngineFailed (died or failed on this audio: costs an attempt), EngineRefused (its
        INVALID_ARGUMENT). What `audio` raises passes through."""
