"""deploy/local_cluster/services: whom a fault's signals reach. They are sent as root on many machines, and numbers of
processes are used again."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from deploy.local_cluster.services import Service


class Script(Service):
    """What a shell does with $1, a file that it makes when it is ready."""

    def __init__(self, folder: Path, script: str) -> None:
        super().__init__(folder)
        self._script = script
        self.told = folder / "told"

    def command(self) -> Sequence[str]:
        return ["sh", "-c", self._script, "sh", str(self.told)]

    def ready(self) -> bool:
        return self.told.exists() and self.told.read_text().endswith("\n")

    def child(self) -> psutil.Process:
        return psutil.Process(int(self.told.read_text()))


LASTING = 'echo $$ > "$1"; exec sleep 300'
LEAVES_A_CHILD = 'sleep 300 & echo $! > "$1"; exec sleep 0.3'


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """In the same folder, and in a session of its own."""
    (tmp_path / "service").mkdir()
    argv = [sys.executable, "-c", "import time; time.sleep(300)"]
    process = subprocess.Popen(argv, cwd=tmp_path / "service", start_new_session=True)
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("do", ["stop", "kill", "pause", "resume"])
def test_the_number_of_a_process_that_has_ended_is_nobodys(
    do: str, tmp_path: Path, stranger: subprocess.Popen[bytes]
) -> None:
    service = Script(tmp_path / "service", LASTING).start()
    process = service.process
    assert process is not None
    process.kill()
    process.wait()
    process.pid = stranger.pid  # as when the kernel had given it again
    getattr(service, do)()
    time.sleep(0.1)
    assert psutil.Process(stranger.pid).status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
    assert stranger.poll() is None


def reaped(service: Script) -> None:
    while service.running():
        time.sleep(0.02)


def unnoticed(service: Script) -> None:
    time.sleep(1.0)


@pytest.mark.parametrize("do", ["stop", "kill"])
@pytest.mark.parametrize("until", [reaped, unnoticed])
def test_what_an_ended_process_left_ends(
    until: Callable[[Script], None], do: str, tmp_path: Path, stranger: subprocess.Popen[bytes]
) -> None:
    service = Script(tmp_path / "service", LEAVES_A_CHILD).start()
    child = service.child()
    until(service)
    assert child.is_running()
    getattr(service, do)()
    psutil.wait_procs([child], 5)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert stranger.poll() is None, "whoever else works in that folder"
    getattr(service, do)()  # idempotent


def test_a_signal_reaches_all_of_a_running_one(tmp_path: Path) -> None:
    service = Script(tmp_path / "service", 'sleep 300 & echo $! > "$1"; wait').start()
    child = service.child()
    service.pause()
    time.sleep(0.1)
    assert child.status() == psutil.STATUS_STOPPED
    service.resume()
    service.kill()
    psutil.wait_procs([child], 5)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert not service.running()
