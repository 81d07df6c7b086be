"""Moonshine tiny (English) through sherpa-onnx: the embedded default. Cased, punctuated text; no word times."""

from __future__ import annotations

import os
import queue
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import sherpa_onnx

from cosygate.engine.models import MOONSHINE_TINY_EN, locate, tokens_txt
from cosygate.engine.recognisers.base import RATE, Hints, Model, Recognised, Samples

# The encoder refuses less than this (and sherpa-onnx writes a page to stderr); no speech is that short.
_SHORTEST = RATE // 10


class Moonshine:
    name = "moonshine"
    version = f"tiny-en 0.0.59, sherpa-onnx {sherpa_onnx.__version__}"
    models: tuple[Model, ...] = (Model("moonshine-tiny-en", ("en",), ("punctuation",)),)
    cut_s: float | None = None
    limit_s: float | None = None
    instant = False

    def __init__(self, recognisers: list[Any]) -> None:
        """`recognisers`: sherpa_onnx.OfflineRecognizer objects, each used by one thread at a time. Two threads on one
        get 1.5 times the throughput of one thread, on one each twice."""
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for recogniser in recognisers:
            self._free.put(recogniser)

    @classmethod
    def load(cls, slots: int) -> Moonshine:
        """One recogniser (80 MB) per slot, but no more than there are cores. Raises CannotStart."""
        files = locate(MOONSHINE_TINY_EN)
        count = max(1, min(slots, len(os.sched_getaffinity(0))))
        with tempfile.TemporaryDirectory(prefix="cosygate-tokens-") as folder:
            tokens = Path(folder) / "tokens.txt"
            tokens.write_text(tokens_txt(files["tokenizer"].read_bytes()))

            def make(_: int) -> Any:
                return sherpa_onnx.OfflineRecognizer.from_moonshine_v2(
                    encoder=str(files["encoder"]), decoder=str(files["decoder"]), tokens=str(tokens), num_threads=1
                )

            with ThreadPoolExecutor(count) as pool:
                return cls(list(pool.map(make, range(count))))

    def recognise(self, samples: Samples, hints: Hints, stop: threading.Event) -> Recognised:
        if len(samples) < _SHORTEST:
            return Recognised("")
        recogniser = self._free.get()
        try:
            stream = recogniser.create_stream()
            stream.accept_waveform(RATE, samples)
            recogniser.decode_stream(stream)
            return Recognised(stream.result.text.strip(), language="en")
        finally:
            self._free.put(recogniser)

    def close(self) -> None:
        pass
