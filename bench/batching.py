"""Whether sherpa-onnx decodes several pieces at once faster than one after the other: `python -m bench.batching`.

The embedded model hears pieces of samples/, cut at their pauses; each round does the same pieces both ways, and the
median of the rounds' ratios is told (above 1: together is faster).
"""

import statistics
import tempfile
import time
import wave
from pathlib import Path
from typing import Any

import numpy as np
import sherpa_onnx

from cosygate.engine.models import MOONSHINE_TINY_EN, locate, tokens_txt

_ROUNDS = 15
_SIZES = (2, 4, 8)
_PIECES = ((0.0, 2.8), (3.2, 7.3), (7.7, 10.5), (10.8, 13.8), (14.2, 16.9), (0.0, 2.8), (3.2, 7.3), (7.7, 10.5))  # s


def main() -> int:
    files = locate(MOONSHINE_TINY_EN)
    with wave.open(str(Path(__file__).parents[1] / "samples" / "dialogue.wav")) as file:
        rate = file.getframerate()
        sound = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
    with tempfile.TemporaryDirectory() as folder:
        tokens = Path(folder) / "tokens.txt"
        tokens.write_text(tokens_txt(files["tokenizer"].read_bytes()))
        recogniser = sherpa_onnx.OfflineRecognizer.from_moonshine_v2(
            encoder=str(files["encoder"]), decoder=str(files["decoder"]), tokens=str(tokens), num_threads=1
        )

    def streams(count: int) -> list[Any]:
        made = []
        for start, end in _PIECES[:count]:
            stream = recogniser.create_stream()
            stream.accept_waveform(rate, sound[round(start * rate) : round(end * rate)])
            made.append(stream)
        return made

    for size in _SIZES:
        ratios = []
        for _ in range(_ROUNDS):
            alone, together = streams(size), streams(size)
            started = time.perf_counter()
            for stream in alone:
                recogniser.decode_stream(stream)
            between = time.perf_counter()
            recogniser.decode_streams(together)
            ended = time.perf_counter()
            if [s.result.text for s in alone] != [s.result.text for s in together]:
                raise SystemExit("they do not hear the same")
            ratios.append((between - started) / (ended - between))
        low, *_, high = sorted(ratios)
        print(f"{size} pieces: {statistics.median(ratios):.2f} ({low:.2f}-{high:.2f})")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
