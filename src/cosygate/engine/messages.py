"""Between the wire's messages and what the engine works with: configs are checked, audio too, segments written."""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from cosygate.engine.extras import LIVE_SPEAKERS, SPEAKERS
from cosygate.engine.pipeline import SAMPLE_RATES, Heard
from cosygate.engine.recognisers.base import Hints, Model
from cosygate.engine.shared import Shared
from cosygate.proto import speech_engine_pb2 as pb

AUDIO_MAX = 64 * 1024  # bytes of one audio message
SPEAKERS_MAX = 30
LIVE = "live"  # the capability


class CallEnded(Exception):
    """The call ends without a result. `detail` is for the caller."""

    def __init__(self, code: grpc.StatusCode, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def invalid(detail: str) -> CallEnded:
    return CallEnded(grpc.StatusCode.INVALID_ARGUMENT, detail)


def check_config(config: pb.RecognizeConfig, models: tuple[Model, ...]) -> Hints:
    """What the recogniser will be told. Raises CallEnded (INVALID_ARGUMENT) for everything it cannot honour."""
    if config.mode not in (pb.BATCH, pb.LIVE):
        raise invalid(f"there is no mode {config.mode}")
    if config.sample_rate not in SAMPLE_RATES:
        raise invalid(f"sample_rate {config.sample_rate} is not one of {', '.join(map(str, SAMPLE_RATES))}")
    model = next((m for m in models if config.model in ("", m.name)), None)
    if model is None:
        raise invalid(f"there is no model {config.model[:64]!r}; there is {', '.join(m.name for m in models)}")
    language = config.language or "auto"
    if language != "auto" and "*" not in model.languages:
        known = {tag.lower().partition("-")[0] for tag in model.languages}
        if language.lower().partition("-")[0] not in known:
            raise invalid(f"model {model.name} does not know the language {language[:32]!r}")
    if config.mode == pb.LIVE and not 0 <= config.restart_sample - config.first_sample <= config.sample_rate:
        raise invalid("restart_sample is not first_sample, nor within the second after it")
    wanted = [*config.features, *(["hotwords"] if config.hotwords else [])]
    for feature in wanted:
        needed = LIVE_SPEAKERS if feature == SPEAKERS and config.mode == pb.LIVE else feature
        if needed not in model.capabilities:
            raise invalid(f"model {model.name} cannot tell {feature[:32]!r}")
    if (config.num_speakers or config.max_speakers) and SPEAKERS not in config.features:
        raise invalid("a number of speakers without the feature speakers")
    if max(config.num_speakers, config.max_speakers) > SPEAKERS_MAX:
        raise invalid(f"at most {SPEAKERS_MAX} speakers are told apart")
    return Hints(model.name, language, tuple(config.features), tuple(config.hotwords))


def speakers_event(turns: Sequence[tuple[int, int, str]]) -> pb.RecognizeEvent:
    """`turns`: first sample and end, as sent, and who spoke."""
    told = [pb.Speakers.Turn(start_sample=start, end_sample=end, speaker=speaker) for start, end, speaker in turns]
    return pb.RecognizeEvent(speakers=pb.Speakers(turns=told))


def check_audio(pcm: bytes) -> bytes:
    """Raises CallEnded (INVALID_ARGUMENT)."""
    if len(pcm) % 2 or len(pcm) > AUDIO_MAX:
        raise invalid(f"an audio message has {len(pcm)} bytes: not an even number up to {AUDIO_MAX}")
    return pcm


def segment_event(heard: Heard) -> pb.RecognizeEvent:
    told = heard.recognised
    words = [pb.Word(start_sample=w.start, end_sample=w.end, text=w.text, confidence=w.confidence) for w in heard.words]
    segment = pb.Segment(
        start_sample=heard.start,
        end_sample=heard.end,
        text=told.text,
        speaker=told.speaker,
        emotion=told.emotion,
        language=told.language,
        confidence=told.confidence,
        words=words,
        events=told.events,
    )
    return pb.RecognizeEvent(segment=segment)


def description(shared: Shared) -> pb.EngineDescription:
    """Every model is live: its utterances are cut, and recognised again while they are spoken, by the engine."""
    models = [pb.Model(name=m.name, languages=m.languages, capabilities=_told(m)) for m in shared.models]
    slots, live_slots = shared.slots, shared.live_slots
    return pb.EngineDescription(
        name=shared.recogniser.name,
        version=shared.recogniser.version,
        slots=slots.count,
        slots_busy=slots.busy,
        waiting=slots.waiting,
        live_slots=live_slots.count,
        live_busy=live_slots.busy,
        models=models,
        sample_rates=SAMPLE_RATES,
    )


def _told(model: Model) -> list[str]:
    return [*(c for c in model.capabilities if c != LIVE), LIVE]
