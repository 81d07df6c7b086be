"""One process of `cosygate worker`: Celery in the main thread gets hints, an event loop in another runs the jobs.

Started as `python -m cosygate.worker.celery_process --index I --pulse PATH`; its settings come from the environment.
It prints one line, `ready`, once it can run jobs (with or without the broker: it looks at the table by itself, too).
SIGTERM: it claims nothing more, its jobs get `drain_s` to finish, the others are handed back; then it ends. What needs
a loop, a channel or a socket is made here, in the process that uses it, never before a fork.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import uvloop

from cosygate import errors
from cosygate import settings as settings_module
from cosygate.kit import logs, tracing, vitals
from cosygate.kit.lineage import die_with_parent
from cosygate.settings.cluster import queues_of
from cosygate.wiring.celery import LOW, NORMAL, TASK, celery_app
from cosygate.wiring.workshop import Workshop, open_workshop
from cosygate.worker.dispatch import Dispatcher, Nobody
from cosygate.worker.rounds import Rounds

_log = logs.logger()
CANNOT_START = 78  # EX_CONFIG (sysexits.h), as a gateway and an engine say it
RENEWED = 75  # EX_TEMPFAIL: it ended by itself to be started anew
ENDING = b"e"  # its pulse, from when on it claims nothing more
_HIGHEST = 1_000_000  # of a priority's number
_RENEW_LOOK_S = 5.0
_AGAIN_S = 2.0  # before the broker is asked again that cannot be used


class Shop:
    """The event loop's side: jobs, and the rounds beside them."""

    def __init__(self, settings: settings_module.Settings, index: int, pulse: str, breakers: Path | None) -> None:
        self._settings = settings
        self._index = index
        self._pulse = pulse
        self._breakers = breakers
        self._loop: asyncio.AbstractEventLoop | None = None
        self._dispatcher: Dispatcher | None = None
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self.ended = threading.Event()  # it has been told to end
        self.began: Future[None] = Future()
        self.ending = False
        self.renewed = False

    def run(self) -> None:
        """In a thread of its own, until `stop`."""
        try:
            uvloop.run(self._run())
        except BaseException as error:
            if self.began.done():
                _log.exception("worker.crashed")
                os.kill(os.getpid(), signal.SIGTERM)  # Celery's side ends, and the parent starts another
            else:
                self.began.set_exception(error)

    def stop(self) -> None:
        """From any thread, a signal handler too: begins to end. Said again, no job gets longer than `drain_s`, however
        patiently it began."""
        event = self._hurry if self.ending else self._stopping
        self.ending = True
        self.ended.set()
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # its loop has ended
                self._loop.call_soon_threadsafe(event.set)

    def hinted(self, job_ids: list[str]) -> bool:
        """On a thread of Celery's: see Dispatcher.hinted. The ids say that there may be work; which of it is next is
        the records' to say."""
        if self._loop is None or self._dispatcher is None or self._stopping.is_set():
            return False
        return asyncio.run_coroutine_threadsafe(self._dispatcher.hinted(), self._loop).result()

    def beat(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Its pulse, and whether it claims."""
        vitals.beat(reader, writer, ENDING if self.ending else b".")

    async def _run(self) -> None:
        settings = self._settings
        async with open_workshop(settings, self._index, self._breakers) as shop:
            self._loop = asyncio.get_running_loop()
            self._dispatcher = dispatcher = _dispatcher(shop, settings)
            rounds = Rounds(shop.clock)
            rounds.every(settings.reaper_every_s, shop.reaper.round)
            rounds.every(vitals.EVERY_S, vitals.Vitals(shop.clock).look)
            born = shop.clock.monotonic()
            # Not all that were started together at the same moment: whoever is renewed claims nothing meanwhile.
            longest_s = settings.worker_age_s * shop.randomness.uniform(0.8, 1.2)
            rounds.every(_RENEW_LOOK_S, lambda: self._renew(shop.clock.monotonic() - born, longest_s))
            dispatching = asyncio.create_task(dispatcher.run())
            beating = await asyncio.start_unix_server(self.beat, self._pulse)  # kept: else it is collected
            self.began.set_result(None)
            if not self.ending:
                await self._stopping.wait()
            _log.info("worker.draining", jobs=dispatcher.busy())
            dispatching.cancel()
            await asyncio.gather(dispatching, return_exceptions=True)
            if self.renewed:  # nobody waits for it: its jobs may finish
                idle, hurry = asyncio.create_task(dispatcher.idle()), asyncio.create_task(self._hurry.wait())
                await asyncio.wait({idle, hurry}, return_when=asyncio.FIRST_COMPLETED)
                idle.cancel()
                hurry.cancel()
            await dispatcher.stop(settings.drain_s)
            await rounds.stop()
            beating.close()

    async def _renew(self, age_s: float, longest_s: float) -> None:
        """What grows with every job, whoever's fault it is, grows for a bounded time. `longest_s`: 0 for any age."""
        settings = self._settings
        memory, _ = await asyncio.to_thread(vitals.weigh)
        old = 0 < longest_s <= age_s
        big = bool(settings.worker_memory_bytes) and memory >= settings.worker_memory_bytes
        if (old or big) and not self._stopping.is_set():
            _log.info("worker.renewed", reason="age" if old else "memory", age_s=round(age_s), memory_bytes=memory)
            self.renewed = True
            os.kill(os.getpid(), signal.SIGTERM)  # as if it had been asked to end: Celery has to stop, too


def _dispatcher(shop: Workshop, settings: settings_module.Settings) -> Dispatcher:
    queues = frozenset(queues_of(settings.worker_queues))
    ranges = {frozenset({"normal"}): (-_HIGHEST, 0), frozenset({"low"}): (1, _HIGHEST)}
    return Dispatcher(
        shop.transcribe,
        shop.engines,
        shop.queue,
        Nobody(),
        shop.clock,
        shop.randomness,
        claimant=shop.claimant,
        jobs=settings.worker_jobs,
        priorities=ranges.get(queues),
    )


def _listen_to_hints(settings: settings_module.Settings, shop: Shop, index: int) -> None:
    """Celery's side, in the main thread; returns when this process is to end."""
    from celery import signals
    from celery.worker import state

    app = celery_app(settings)

    @app.task(name=TASK, ignore_result=True)  # type: ignore[untyped-decorator]  # Celery has no types
    def transcribe(job_ids: list[str]) -> bool:
        return shop.hinted(job_ids)

    class Worker(app.Worker):  # type: ignore[misc, name-defined]
        def install_platform_tweaks(self, worker: Any) -> None:
            super().install_platform_tweaks(worker)  # Celery's handlers of signals
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides who stops
            if shop.ending:  # asked before Celery could hear of it
                state.should_stop = 0

    signals.worker_shutting_down.connect(lambda **_: shop.stop(), weak=False)
    signals.setup_logging.connect(lambda **_: None, weak=False)  # it leaves logging alone when somebody listens
    names = {"normal": NORMAL, "low": LOW}
    while not shop.ending:
        worker = Worker(
            hostname=f"cosygate-{os.getppid()}-{index}@{socket.gethostname()}",  # no two on one host
            pool="threads",
            concurrency=settings.worker_jobs,
            queues=[names[name] for name in queues_of(settings.worker_queues)],
            quiet=True,
            without_gossip=True,
            without_mingle=True,
        )
        worker.start()
        # It gives up when a broker answers with errors (READONLY, no disk, a password). The jobs do not need it.
        if not shop.ending:
            _log.error("broker.unusable", again_in_s=_AGAIN_S)
            shop.ended.wait(_AGAIN_S)


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m cosygate.worker.celery_process")
    parser.add_argument("--index", type=int, default=0, help="which of this host's worker processes this is")
    parser.add_argument("--pulse", required=True, help="Unix socket that answers while this process is not stuck")
    parser.add_argument("--breakers", type=Path, help="folder of the engines' breakers, shared with the others")
    parser.add_argument("--parent-pid", type=int, required=True, help="ends when this process is gone")
    args = parser.parse_args()
    if not die_with_parent(args.parent_pid):
        return 0
    settings = settings_module.load()
    logs.configure(settings.log_level)
    tracing.start(
        settings.otlp_endpoint, settings.trace_ratio, service="cosygate-worker", instance=f"worker-{args.index}"
    )
    shop = Shop(settings, args.index, args.pulse, args.breakers)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: shop.stop())  # until Celery has its own
    thread = threading.Thread(target=shop.run, name="jobs", daemon=True)
    thread.start()
    try:
        shop.began.result()
        print("ready", flush=True)  # noqa: T201 - the parent waits for this line
        _listen_to_hints(settings, shop, args.index)
    except (ValueError, OSError, errors.CosyGateError) as error:
        _log.error("worker.cannot_start", detail=str(error))
        return CANNOT_START
    finally:
        if not shop.ending:  # a second time would hurry it
            shop.stop()
        thread.join()
        tracing.stop()
    _log.info("worker.stopped")
    return RENEWED if shop.renewed else 0


if __name__ == "__main__":
    sys.exit(main())
