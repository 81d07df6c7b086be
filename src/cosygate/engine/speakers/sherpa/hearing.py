"""The models at work, in a child process: a minute of speech in, its turns and the sound of its voices out."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import sherpa_onnx
from numpy.typing import NDArray

from cosygate.engine.folders.folder import ModelFolder
from cosygate.engine.recognisers.base import RATE, Samples
from cosygate.engine.speakers.sherpa.checking import DIMENSIONS, EMBEDDING, SEGMENTATION, threshold
from cosygate.engine.speakers.sherpa.laying import Stretch, alone, in_line
from cosygate.engine.speakers.sherpa.voice import Voice

_SOUND_MAX = 30 * RATE  # samples by which a voice is known: more say nothing new, and cost time


class Hearing:
    """For one thread: it holds Python's lock for as long as it works (2.9 s on 330 s, with models of a few KB)."""

    def __init__(self, folder: ModelFolder, num_threads: int) -> None:
        """Ends the process when sherpa-onnx cannot use the models (see trial.py)."""
        pyannote = sherpa_onnx.OfflineSpeakerSegmentationPyannoteModelConfig(model=str(folder.files[SEGMENTATION]))
        self._segmentation = sherpa_onnx.OfflineSpeakerSegmentationModelConfig(
            pyannote=pyannote, num_threads=num_threads
        )
        self._embedding = sherpa_onnx.SpeakerEmbeddingExtractorConfig(
            model=str(folder.files[EMBEDDING]), num_threads=num_threads
        )
        self._threshold = threshold(folder)
        self._speakers = 0
        self._diarisation = sherpa_onnx.OfflineSpeakerDiarization(self._config())
        self._extractor = sherpa_onnx.SpeakerEmbeddingExtractor(self._embedding)
        self.dimensions = int(self._extractor.dim)  # as the metadata says
        self._said_in = folder.files[EMBEDDING]

    def hear(self, samples: Samples, speakers: int) -> tuple[list[Stretch], list[Voice]]:
        """`speakers`: how many there are, 0 when that is not known. Turns count in samples, in order and without
        overlap; their speakers are indexes of the voices."""
        if speakers != self._speakers:
            self._speakers = speakers
            self._diarisation.set_config(self._config())
        found = self._diarisation.process(samples).sort_by_start_time()
        ids: dict[int, int] = {}
        heard: list[Stretch] = []
        for turn in found:
            start, end = (min(max(round(seconds * RATE), 0), len(samples)) for seconds in (turn.start, turn.end))
            if start < end:
                heard.append((start, end, ids.setdefault(turn.speaker, len(ids))))
        own: list[list[tuple[int, int]]] = [[] for _ in ids]
        for start, end, speaker in alone(heard):
            own[speaker].append((start, end))
        return in_line(heard), [self._voice(samples, stretches) for stretches in own]

    def sound_of(self, stretches: Iterable[Samples]) -> NDArray[np.float32]:
        """The embedding of all of them, of length 1; zeros when there is too little, or the model fails on it.
        Raises ValueError when it is not as long as the metadata says."""
        stream = self._extractor.create_stream()
        for samples in stretches:
            stream.accept_waveform(RATE, samples)
        stream.input_finished()
        nothing = np.zeros(self.dimensions, np.float32)
        if not self._extractor.is_ready(stream):
            return nothing
        sound = np.asarray(self._extractor.compute(stream), np.float32)
        if sound.shape != (self.dimensions,):
            raise ValueError(
                f"{self._said_in} gives embeddings of {sound.size} numbers, and its metadata says {self.dimensions}"
                f" as {DIMENSIONS}"
            )
        length = float(np.linalg.norm(sound))
        return sound / np.float32(length) if 0 < length < np.inf else nothing

    def _voice(self, samples: Samples, stretches: list[tuple[int, int]]) -> Voice:
        """By its longest stretches, in their order."""
        chosen, room = [], _SOUND_MAX
        for start, end in sorted(stretches, key=lambda stretch: stretch[0] - stretch[1]):
            if room > 0:
                chosen.append((start, min(end, start + room)))
                room -= end - start
        sound = self.sound_of(samples[start:end] for start, end in sorted(chosen))
        return Voice(sum(end - start for start, end in stretches) / RATE, sound)

    def _config(self) -> sherpa_onnx.OfflineSpeakerDiarizationConfig:
        clustering = sherpa_onnx.FastClusteringConfig(num_clusters=self._speakers or -1, threshold=self._threshold)
        return sherpa_onnx.OfflineSpeakerDiarizationConfig(
            segmentation=self._segmentation, embedding=self._embedding, clustering=clustering
        )
