"""Load by wrk: two threads, sixteen connections, closed loop; and a check that what was acknowledged is on disk."""

import json
import subprocess
import time
from pathlib import Path

import psutil

from bench.contestants import Target, program
from bench.recordings import CHUNK, noise, wav, wav_header

THREADS = 2
CONNECTIONS = 16
CHUNKS = 50  # parts of one long upload
SHORT_S = 5.0  # seconds of a short recording
WARM_UP_S = 1
SETTLE_S = 1.0  # requests that the warm-up left behind come to their end
_SCRIPTS = Path(__file__).parent / "wrk"


class BadRun(RuntimeError):
    """Requests were refused, connections broke, or bytes are missing on disk: the figures mean nothing."""


def prepare(folder: Path) -> None:
    """The request bodies, as files that the scripts read once."""
    (folder / "first.bin").write_bytes(wav_header(CHUNKS * CHUNK - 44) + noise(CHUNK - 44))
    (folder / "chunk.bin").write_bytes(noise(CHUNK, seed=2))
    (folder / "short.bin").write_bytes(wav(SHORT_S))


def chunks(target: Target, folder: Path, seconds: int, *, script: str, prefix: str) -> dict[str, float]:
    """One chunk of many 50-chunk uploads, none of which is ever completed."""
    bodies = [f"first={folder}/first.bin", f"chunk={folder}/chunk.bin", f"parts={CHUNKS}", "complete=0"]
    return _measure(target, seconds, script, prefix, bodies, CHUNK)


def short_recordings(target: Target, folder: Path, seconds: int, *, script: str, prefix: str) -> dict[str, float]:
    """A whole recording of five seconds per request."""
    size = (folder / "short.bin").stat().st_size
    return _measure(target, seconds, script, prefix, [f"first={folder}/short.bin", "parts=1", "complete=1"], size)


def _measure(target: Target, seconds: int, script: str, prefix: str, bodies: list[str], size: int) -> dict[str, float]:
    common = [f"prefix={prefix}", f"token={target.token}", *bodies]
    warm = _wrk(target, script, WARM_UP_S, [*common, "run=warm"])
    time.sleep(SETTLE_S)
    before = cpu_seconds(target.pid)
    found = _wrk(target, script, seconds, [*common, "run=main"])
    if not found["requests"]:
        raise BadRun(f"no answer within {seconds} s")
    spent = cpu_seconds(target.pid) - before
    acknowledged = int(warm["requests"] + found["requests"]) * size
    stored = sum(path.stat().st_size for path in target.data.rglob("*") if path.is_file())
    if stored < acknowledged:
        raise BadRun(f"{acknowledged} bytes were acknowledged, {stored} are on disk")
    return {
        "rate": found["requests"] / found["seconds"],
        "cpu_ms": 1000 * spent / found["requests"],
        **{k: found[k] for k in ("p50_ms", "p99_ms", "max_ms", "requests")},
    }


def cpu_seconds(root: int) -> float:
    """User and system time of a server's process tree, with that of children that have ended."""
    leader = psutil.Process(root)
    times = [process.cpu_times() for process in (leader, *leader.children(recursive=True))]
    return sum(t.user + t.system + t.children_user + t.children_system for t in times)


def _wrk(target: Target, script: str, seconds: int, args: list[str]) -> dict[str, float]:
    command = [program("wrk"), f"-t{THREADS}", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "30s"]
    command += ["-s", str(_SCRIPTS / f"{script}.lua"), target.url, "--", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    if done.returncode != 0:
        raise BadRun(f"wrk: {done.stderr.strip() or done.stdout.strip()}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    if found["refused"] or found["broken"]:
        raise BadRun(f"wrk: {found}")
    return found
