"""`make demo`: starts a server, sends it the speech of samples/, shows what happens, and leaves it running.

With `--once` the server is stopped after the transcripts. Exit status 0 when every recording got one.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from cosygate.cli.embedded import ServerFailed, launch
from cosygate.cli.progress import Bars
from cosygate.cli.tokens import issue
from cosygate.client import Client, ClientError, Retries, Transcript
from cosygate.settings import load

ROOT = Path(__file__).resolve().parent.parent
PORT = 8000  # another one when it is taken
CHUNK_BYTES = 64 * 1024  # small, so that a sample is more than one
TOKEN_TTL_S = 7 * 86400.0
STOP_S = 20.0


class Demo:
    """A server in the background, known by the files in `folder`: server.pid, server.log, data/."""

    def __init__(self, folder: Path) -> None:
        self.pid_file = folder / "server.pid"
        self._log = folder / "server.log"
        self._data = folder / "data"
        self._child: subprocess.Popen[bytes] | None = None
        self._data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.token = issue(load(data_dir=self._data), "demo", ttl_s=TOKEN_TTL_S)

    def url(self) -> str:
        """The address of the running server, which is started unless an earlier demo's still answers. Raises
        ServerFailed."""
        if self._running_pid():
            lines = (line.split() for line in self._log.read_text(errors="replace").splitlines())
            ready = [words[1] for words in lines if words[:1] == ["ready"] and len(words) > 1]
            if ready and _answers(ready[0], self.token):
                return ready[0]
            self.stop()
        arguments = ["--host", "127.0.0.1", "--port", str(PORT if _free(PORT) else 0)]
        self._child, url = launch(arguments, data_dir=self._data, log=self._log)
        self.pid_file.write_text(f"{self._child.pid}\n")
        return url

    def stop(self) -> None:
        if pid := self._running_pid():
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + STOP_S
            while self._running_pid() and time.monotonic() < deadline:
                time.sleep(0.05)
            if self._running_pid():
                os.killpg(pid, signal.SIGKILL)
        self.pid_file.unlink(missing_ok=True)

    def _running_pid(self) -> int | None:
        """Of the demo's server, if it lives: pids are used again, so it must also look like one."""
        if self._child is not None:
            self._child.poll()  # a child that ended is not there any more only once it was asked for
        try:
            pid = int(self.pid_file.read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if b"cosygate" in command and b"serve" in command else None


def _free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _answers(url: str, token: str) -> bool:
    try:
        with Client(url, token, timeout_s=5, retries=Retries(attempts=1)) as client:
            client.models()
    except ClientError:
        return False
    return True


def transcribe(client: Client, path: Path, bars: Bars) -> Transcript:
    bars.next_file(path.name)
    session_id = f"demo-{path.stem}-{secrets.token_hex(4)}"  # anew each time: there would be nothing to see otherwise
    task = client.upload(path, session_id=session_id, chunk_bytes=CHUNK_BYTES, on_progress=bars.sent)
    client.wait(task.id, timeout_s=300, on_event=bars.event)
    return client.transcript(task.id)


def show(console: Console, name: str, transcript: Transcript) -> None:
    spent = transcript.timings.get("total")
    took = f", transcribed in {spent:.1f} s" if spent is not None else ""
    console.print(f"\n[bold]{escape(name)}[/] ({transcript.duration:.1f} s of audio{took})", highlight=False)
    for segment in transcript.segments:
        span = f"{_clock(segment.start)} - {_clock(segment.end)}"
        console.print(f"  [cyan]{span}[/]  {escape(segment.text)}", highlight=False)


def _clock(seconds: float) -> str:
    return f"{int(seconds // 60):02d}:{seconds % 60:04.1f}"


def run(demo: Demo, samples: list[Path], console: Console, *, once: bool) -> int:
    silent = []
    try:
        with console.status("starting the server"):
            url = demo.url()
        with Client(url, demo.token) as client:
            with Bars(console) as bars:
                transcripts = {path.name: transcribe(client, path, bars) for path in samples}
            for name, transcript in transcripts.items():
                show(console, name, transcript)
                if not transcript.text:
                    silent.append(name)
    finally:
        if once:
            demo.stop()
    if silent:
        console.print(f"no words were recognised in {', '.join(silent)}")
    if not once:
        farewell(console, url, demo)
    return 1 if silent else 0


def farewell(console: Console, url: str, demo: Demo) -> None:
    """Unwrapped and without markup: these lines are for copying."""
    lines = {
        "The page, signed in": f"{url}/#token={demo.token}",
        "The API": f"{url}/docs",
        "A token": demo.token,
        "To stop the server": f"kill $(cat {os.path.relpath(demo.pid_file)})",
    }
    console.print("\nThe server keeps running.")
    for name, value in lines.items():
        console.print(f"  {name}:", style="bold")
        console.print(f"    {value}", markup=False, highlight=False, soft_wrap=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Transcribes samples/ through a real server.")
    parser.add_argument("--once", action="store_true", help="stop the server afterwards")
    parser.add_argument("--folder", type=Path, default=ROOT / ".demo", help="for the server's data, log and pid")
    options = parser.parse_args()
    console = Console()
    samples = sorted((ROOT / "samples").glob("*.wav"))
    if not samples:
        console.print("there is no samples/*.wav; `make samples` makes them")
        return 1
    try:
        return run(Demo(options.folder), samples, console, once=options.once)
    except (ServerFailed, ClientError, ValueError) as error:
        console.print(f"the demo failed: {error}", markup=False)
        return 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
