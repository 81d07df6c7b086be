"""A speech engine, wherever it is: audio in, events out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol

from cosygate.model.speakers import SpeakerTurn
from cosygate.model.transcript import EngineName, Segment

CAPABILITIES = (
    *("words", "speakers", "live_speakers", "language", "emotion", "events", "punctuation"),
    *("itn", "hotwords", "live"),
)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What one model of an engine can tell. Abilities are data: a missing one is refused by name."""

    name: str
    languages: tuple[str, ...]  # BCP 47; ("*",) when it does not care
    words: bool = False
    speakers: bool = False  # of recordings
    live_speakers: bool = False  # of live sessions
    language: bool = False  # it finds out which of its languages is spoken
    emotion: bool = False
    events: bool = False  # what is heard beside speech
    punctuation: bool = False
    itn: bool = False
    hotwords: bool = False
    live: bool = False

    def can(self, capability: str) -> bool:
        """By the name of a field above."""
        return bool(getattr(self, capability))

    def can_live(self, capability: str) -> bool:
        """The same in a live session: speakers there are another matter, and nobody tells words."""
        return capability != "words" and self.can("live_speakers" if capability == "speakers" else capability)

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
    live_slots: int = 0  # live calls at once; they share the engine's threads
    live_busy: int = 0  # of those, taken when it was asked


@dataclass(frozen=True, slots=True)
class RecogniseConfig:
    language: str = "auto"
    model: str | None = None
    sample_rate: int = 16_000
    features: tuple[str, ...] = ()
    hotwords: tuple[str, ...] = ()
    num_speakers: int = 0  # with the feature speakers: how many there are; 0: not known
    max_speakers: int = 0  # with the feature speakers: there are no more; 0: not known
    doubts: bool = False  # with language auto: what sounds like no language of the model's gets no segments
    slot_wait_s: float = 30.0  # how long the engine may let the call wait for a slot
    alone: bool = False  # the engine gives it every slot: it is suspected of ending engines
    deadline_s: float = 0.0  # how long the whole call may take, which the engine is told; 0: as long as any
    trace_id: str = ""


@dataclass(frozen=True, slots=True)
class ListenConfig:
    """One live call. Audio is sent from `first_sample` on; decisions begin at `restart_sample` (not before it), and
    what lies between only warms the resampler (kit/pcm.py, warm_up_samples)."""

    sample_rate: int
    first_sample: int = 0
    restart_sample: int = 0
    finals: int = 0  # how many finals there are before `restart_sample`
    speakers: int = 0  # with the feature speakers: S1 to this one are labels of finals before it; new ones come after
    language: str = "auto"
    model: str | None = None
    features: tuple[str, ...] = ()
    hotwords: tuple[str, ...] = ()
    num_speakers: int = 0  # with the feature speakers: how many there are; 0: not known
    max_speakers: int = 0  # with the feature speakers: there are no more; 0: not known
    interim: bool = True  # partials are wanted
    slot_wait_s: float = 2.0
    suspect: bool = False  # its last call died at the same restart point: that may be what ends engines
    deadline_s: float = 0.0  # as in RecogniseConfig
    trace_id: str = ""


@dataclass(frozen=True, slots=True)
class Finalize:
    """In the audio of a live call: the open utterance ends at the last sample before this."""


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
class SpeakersFound:
    """Who spoke when, in order and not overlapping: known once all was heard, so it comes after the last segment."""

    turns: tuple[SpeakerTurn, ...]


@dataclass(frozen=True, slots=True)
class Done:
    engine: EngineName
    samples: int  # all that was received
    foreign: bool = False  # asked for any language, the engine heard none that its model knows: there are no segments
    stats: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Heard:
    """The detector has taken in everything before this sample. At least once a second while audio comes: the sign of
    life of a live call."""

    sample: int


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    sample: int


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    sample: int


@dataclass(frozen=True, slots=True)
class PartialFound:
    """What the open utterance sounds like so far. Replaces the one before."""

    start_sample: int
    end_sample: int
    text: str


@dataclass(frozen=True, slots=True)
class FinalFound:
    """`end_sample` is a restart point. In order, never overlapping; the segment's id counts on from
    ListenConfig.finals, its times are seconds from sample 0. Its speaker, where asked for, is S1, S2, … in the order of
    their first words, from ListenConfig.speakers on: voices are not remembered from one call to the next."""

    start_sample: int
    end_sample: int
    segment: Segment


@dataclass(frozen=True, slots=True)
class Decided:
    """A restart point without a final: silence, or sound without words, up to here."""

    sample: int


ListenEvent = Accepted | Heard | SpeechStarted | SpeechEnded | PartialFound | FinalFound | Decided | Done
EngineEvent = Accepted | Progress | SegmentFound | SpeakersFound | Done


class Engine(Protocol):
    async def describe(self) -> EngineInfo:
        """Raises EngineUnavailable; also when the engine says that it shuts down."""

    async def leaving(self) -> None:
        """Returns when the engine says that it takes no more calls, because it shuts down; that may be never. Raises
        EngineUnavailable once it cannot be heard any more."""

    def listen(
        self, config: ListenConfig, audio: AsyncIterator[bytes | Finalize], *, idle_timeout_s: float
    ) -> AsyncIterator[ListenEvent]:
        """Live speech: streams PCM (s16le mono at config.sample_rate) as it comes and yields Accepted, then the others,
        then, once `audio` has ended and all of it is decided, one Done. Events but Heard are in the order of their
        samples. Restart points and finals depend on samples alone, never on when or in which pieces they came: a call
        that begins at a restart point gives the finals that the earlier one would have given, but for their speakers.

        Reads `audio` no faster than the engine takes it (pieces that wait are sent together). `idle_timeout_s`: the
        longest time that audio was sent to the engine, or its end told, without any event from it; a hung or stopped
        engine ends in EngineFailed. Closing the iterator cancels the call. Raises as `recognise` does; EngineBusy when
        the engine takes no more live calls."""

    def recognise(
        self, config: RecogniseConfig, audio: AsyncIterator[bytes], *, idle_timeout_s: float
    ) -> AsyncIterator[EngineEvent]:
        """Streams PCM (s16le mono at config.sample_rate) and yields Accepted, then Progress and SegmentFound, perhaps
        one SpeakersFound, then one Done. Reads `audio` no faster than the engine takes it. Closing the iterator cancels
        the call.

        `idle_timeout_s`: the longest silence from the engine between two events (or accepted audio); a hung or stopped
        one ends in EngineFailed. Raises EngineBusy (no slot in time), EngineUnavailable (not reachable: costs the
        recording nothing), EngineFailed (died or failed on this audio: costs an attempt), EngineRefused (its
        INVALID_ARGUMENT). What `audio` raises passes through."""


class EngineConnection(Engine, Protocol):
    """An engine whose connections are ours."""

    async def close(self) -> None:
        """Ends all calls and connections; there will be no others."""
