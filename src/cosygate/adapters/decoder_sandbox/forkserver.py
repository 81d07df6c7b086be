"""The fork-server: `python -m cosygate.adapters.decoder_sandbox.forkserver FD CPU_S MEMORY_BYTES`.

A process of its own by exec, so it has nothing of the gateway's memory, environment or descriptors. It loads PyAV
once, isolates itself (lockdown.isolate_server), proves the sandbox on a first child, says `ready`, and then forks a
child per request. It has one thread, parses nothing of a recording, and ends when its control socket does.

Messages are JSON, one a packet of the Unix socket FD:
    to us    {"op": "decode", "id", "task"} with two descriptors: the recording (for a stream a pipe), the
             pipe for frames
             {"op": "kill", "id"}
    from us  {"op": "ready", "layers": {name: "" or why not}}
             {"op": "exit", "id", "status"}   negative: the signal
"""

from __future__ import annotations

import gc
import json
import math
import os
import resource
import select
import signal
import socket
import sys
from typing import Any

import av.logging

from cosygate.adapters.decoder_sandbox import child, lockdown
from cosygate.adapters.decoder_sandbox.frames import HEADER, Kind, write_json
from cosygate.adapters.decoder_sandbox.stream_source import StreamSource
from cosygate.model.audio import AudioLimits, Container

MAX_MESSAGE = 16 * 1024
_MAX_FDS = 1024  # of this process: one a child, and two more while it is asked for
STREAM_CPU_SHARE = 0.02  # of the allowed seconds, which a stream really lasts, on top of a recording's own CPU time
_SILENCE = (
    b"RIFF\x44\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00\x02\x00\x10\x00"
)
_SILENCE += b"data\x20\x00\x00\x00" + bytes(32)


class ForkServer:
    def __init__(self, control: socket.socket, cpu_s: int, memory_bytes: int) -> None:
        self._control = control
        self._cpu_s = cpu_s
        self._memory_bytes = memory_bytes
        self._address_space = 0
        self._filtered = True  # until the proof says that seccomp cannot be had
        self._children: dict[int, tuple[int, int]] = {}  # pidfd → pid, id
        self._poll = select.poll()

    def run(self) -> None:
        warm_up()
        self._address_space = lockdown.mapped_bytes() + self._memory_bytes
        layers = lockdown.isolate_server()
        layers.update(self._prove())
        self._filtered = not layers["seccomp"]
        os.dup2(0, 2)  # /dev/null: nobody reads on
        gc.collect()
        gc.freeze()  # children would otherwise copy every page that the collector touches
        self._send({"op": "ready", "layers": layers})
        self._poll.register(self._control.fileno(), select.POLLIN)
        while True:
            for fd, _ in self._poll.poll():
                if fd != self._control.fileno():
                    self._reap(fd)
                elif not self._receive():
                    return  # the gateway is gone; children die with us

    def _receive(self) -> bool:
        message, fds, _, _ = socket.recv_fds(self._control, MAX_MESSAGE, 2)
        if not message:
            return False
        try:
            self._obey(json.loads(message), fds)
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def _obey(self, message: dict[str, Any], fds: list[int]) -> None:
        number = message["id"]
        if message["op"] == "decode":
            try:
                pid = self._fork(lambda: self._decode(message["task"]), fds)
            except OSError:  # no process to be had: told like one that ended at once
                self._send({"op": "exit", "id": number, "status": 1})
                return
            pidfd = os.pidfd_open(pid)
            self._children[pidfd] = pid, number
            self._poll.register(pidfd, select.POLLIN)
        else:
            for pid, known in self._children.values():
                if known == number:  # not reaped yet, so the pid is still its own
                    os.kill(pid, signal.SIGKILL)

    def _reap(self, pidfd: int) -> None:
        pid, number = self._children.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        self._send({"op": "exit", "id": number, "status": os.waitstatus_to_exitcode(status)})

    def _send(self, message: dict[str, Any]) -> None:
        self._control.sendall(json.dumps(message).encode())

    def _fork(self, work: Any, keep: list[int]) -> int:
        """`keep` become descriptors 0, 1 of the child, which has nothing else and never returns from here."""
        parent = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            lockdown.die_with_parent(parent)
            for target, fd in enumerate(keep):
                os.dup2(fd, target)
            os.closerange(3, _MAX_FDS)
            work()
            status = 0
        finally:
            os._exit(status)

    def _decode(self, task: dict[str, Any]) -> None:
        wanted = child.Task.from_json(task)
        source: child.Input
        if wanted.stream:
            source, cpu_s = StreamSource(0), self._cpu_s + math.ceil(wanted.limits.seconds * STREAM_CPU_SHARE)
        else:
            source, cpu_s = child.Source(0, os.fstat(0).st_size), self._cpu_s
        lockdown.limit_resources(cpu_s, self._address_space)
        if self._filtered:
            lockdown.filter_syscalls()
        child.run(source, 1, wanted)

    def _prove(self) -> dict[str, str]:
        """Runs a confined child that tries what it must not be able to do; its findings by layer."""
        reader, writer = os.pipe()
        pid = self._fork(self._try_everything, [reader, writer])
        os.close(writer)
        with open(reader, "rb") as pipe:  # noqa: PTH123 - a descriptor, not a path
            told = pipe.read()
        os.waitpid(pid, 0)
        return dict(json.loads(told[HEADER.size :])) if told else {"seccomp": "the child that tried it died"}

    def _try_everything(self) -> None:
        lockdown.limit_resources(self._cpu_s, self._address_space)
        why_not = ""
        try:
            lockdown.filter_syscalls()
        except lockdown.Unavailable as error:
            why_not = str(error)
        found = lockdown.try_everything(self._memory_bytes)
        write_json(1, Kind.INFO, {**found, "seccomp": why_not or found["seccomp"]})


def warm_up() -> None:
    """One recording that decodes and one that does not: nothing can be imported in the sandbox any more."""
    null = os.open(os.devnull, os.O_WRONLY)
    recording = os.memfd_create("warm-up")
    os.write(recording, _SILENCE)
    task = child.Task(Container.WAV, None, AudioLimits())
    for size in (len(_SILENCE), 0):
        os.truncate(recording, size)
        child.run(child.Source(recording, size), null, task)
    os.close(recording)
    os.close(null)


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)  # the gateway decides, by closing the socket
    most = min(_MAX_FDS, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    av.logging.set_level(None)
    ForkServer(control, int(sys.argv[2]), int(sys.argv[3])).run()


if __name__ == "__main__":
    main()
