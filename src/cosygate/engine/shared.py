"""What the calls of one engine share, made once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from cosygate.engine.extras import LIVE_SPEAKERS, SPEAKERS, Extras
from cosygate.engine.live_cutter import FixedLiveCutter, LiveCutter, SpeechLiveCutter
from cosygate.engine.models import SILERO_VAD, locate
from cosygate.engine.recognisers.base import Hints, Recogniser
from cosygate.engine.rewind import Rewind
from cosygate.engine.slots import Slots
from cosygate.engine.speakers.live import MOST_VOICES, Labels, LiveSpeakers
from cosygate.engine.turns import Pace, Turns
from cosygate.engine.vad import Cutter, Detector, FixedCutter, Pool, SpeechCutter
from cosygate.kit.clock import Clock
from cosygate.proto import speech_engine_pb2 as pb

_DETECTING = 2  # threads that look for speech in live audio: it takes 0.006 of a core per stream


class Shared:
    """For one event loop."""

    def __init__(
        self, recogniser: Recogniser, extras: Extras, *, slots: int, line: int, live: int, clock: Clock
    ) -> None:
        """`line`: how many calls may wait for a slot; `live`: live calls at once. Raises CannotStart when the speech
        detector's model is bad."""
        self.recogniser = recogniser
        self.extras = extras
        self.models = extras.over(recogniser.models)
        self.live_models = extras.over_live(recogniser.models)
        self.clock = clock
        self.slots = Slots(slots, line)
        self.live_slots = Slots(live, live)
        self.turns = Turns(slots, clock)
        self.pace = Pace(slots)
        self.threads = ThreadPoolExecutor(slots, thread_name_prefix="slot")  # cut files, one thread a slot
        self.detecting = ThreadPoolExecutor(_DETECTING, thread_name_prefix="detect")
        self._cut_s = cut_s = recogniser.cut_s
        self.cutters: Pool[Cutter]
        if cut_s is not None:
            self.cutters = Pool(lambda: FixedCutter(cut_s))
        else:
            model = locate(SILERO_VAD)["model"]
            self.cutters = Pool(lambda: SpeechCutter(model))
            self._detectors = Pool(lambda: Detector(model))

    @property
    def cuts_inline(self) -> bool:
        """Cutting costs so little that a thread would cost more."""
        return self._cut_s is not None

    def live_cutter(self, rate: int, first_sample: int, restart_sample: int) -> LiveCutter:
        """In a thread, unless `cuts_inline`: a new detector takes 70 ms. Then `done_with` it."""
        audio = Rewind(rate, first_sample, restart_sample)
        if self._cut_s is not None:
            return FixedLiveCutter(audio, self._cut_s)
        return SpeechLiveCutter(audio, self._detectors.borrow())

    def live_speakers(self, hints: Hints, config: pb.RecognizeConfig) -> LiveSpeakers | None:
        """For one live call. None where nobody asked for them, or the recogniser tells them itself."""
        model = next(model for model in self.recogniser.models if model.name == hints.model)
        prints = self.extras.prints
        if prints is None or SPEAKERS not in hints.features or LIVE_SPEAKERS in model.capabilities:
            return None
        before = config.speakers if config.HasField("speakers") else config.finals  # no more labels than finals
        most = min((n for n in (config.num_speakers, config.max_speakers) if n), default=MOST_VOICES)
        return LiveSpeakers(prints, Labels(before, most), self.clock)

    def done_with(self, cutter: LiveCutter) -> None:
        """No thread uses it any more."""
        if isinstance(cutter, SpeechLiveCutter):
            self._detectors.give_back(cutter.detector)

    @property
    def idle(self) -> bool:
        """No thread is at work for anybody."""
        return self.slots.busy == 0 and self.turns.busy == 0

    def close(self) -> None:
        idle = self.idle
        self.turns.close()
        for pool in (self.threads, self.detecting):
            pool.shutdown(wait=idle, cancel_futures=True)
        self.extras.close()
