"""`python -m tests.chaos.cluster.clients`: many clients of one installation, for as long as the faults last, and a
receiver of webhooks. They behave well: they try again, and give up after a long time, which they say. All that they are
told is in the journal.

Exit status 0: whether all went well is for the checker to say.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

from tests.chaos.cluster import plan
from tests.chaos.cluster.asking import Door
from tests.chaos.cluster.journal import Journal, read
from tests.chaos.cluster.sending import send
from tests.chaos.cluster.speaking import speak
from tests.chaos.cluster.stories import told_task
from tests.support.receiver import Behaviour, Call, Receiver, answers

AT_ONCE, LIVE_AT_ONCE = 16, 24
LAST_WEBHOOKS_S = 60.0
OVERTIME = 3.0  # times the run: then whoever still tries gives up


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.cluster.clients", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--tokens", type=Path, required=True, help="JSON: bearer tokens, and tenants' webhook secrets")
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--recordings", type=int, default=100)
    parser.add_argument("--live", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60.0, help="over which they begin")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, help="recordings on their way")
    parser.add_argument("--webhooks", type=float, default=LAST_WEBHOOKS_S, help="seconds to wait for the last of them")
    args = parser.parse_args(arguments)
    known = json.loads(args.tokens.read_text())
    door = Door(args.url.rstrip("/"), Journal(args.journal), known["tokens"])
    watch = threading.Timer(OVERTIME * args.seconds + 120, door.enough.set)
    watch.daemon = True
    watch.start()
    told = _Told(door, known.get("webhook_secrets", {}))
    with Receiver(told.behaviour) as receiver:
        door.journal.tell("run", "began", seed=args.seed, recordings=args.recordings, live=args.live, url=door.url)
        began = time.monotonic()
        work = plan.recordings(args.seed, args.recordings, args.seconds)
        talk = plan.speeches(args.seed, args.live, args.seconds, min(16.0, max(4.0, args.seconds / 3)))
        with ThreadPoolExecutor(args.at_once) as senders, ThreadPoolExecutor(LIVE_AT_ONCE) as speakers:
            jobs = [(senders, send, one) for one in work] + [(speakers, speak, one) for one in talk]
            for pool, do, one in sorted(jobs, key=lambda job: job[2].at_s):
                door.enough.wait(max(0.0, began + one.at_s - time.monotonic()))
                pool.submit(_safely, door, one.who, do, door, one, receiver.url if one.webhook else None)
        lasted = time.monotonic() - began
        told.wait_for_the_last(args.journal, args.webhooks)
    watch.cancel()
    door.journal.tell("run", "ended", seconds=round(lasted, 1))
    return 0


def _safely(door: Door, who: str, do: Callable[..., None], *arguments: Any) -> None:
    """A fault of a client's own is one that the run must not hide."""
    try:
        do(*arguments)
    except Exception as error:
        door.journal.tell(who, "broken", error=repr(error)[:300])
        traceback.print_exc()


class _Told:
    """What the receiver is sent. The first try of every third delivery fails, one way or the other."""

    def __init__(self, door: Door, secrets: dict[str, str]) -> None:
        self._door = door
        self._secrets = secrets
        self._seen: dict[str, int] = {}
        self._tasks: set[str] = set()  # that were answered 2xx
        self._lock = threading.Lock()

    def behaviour(self, handler: BaseHTTPRequestHandler, call: Call) -> None:
        try:
            data = json.loads(call.body)["data"]
        except (ValueError, KeyError, TypeError):
            data = {}
        with self._lock:
            tries = self._seen[call.id] = self._seen.get(call.id, 0) + 1
        answer: Behaviour = answers(204)
        if tries == 1 and hashlib.sha256(call.id.encode()).digest()[0] % 3 == 0:
            answer = answers(503)
        self._door.journal.tell(
            "receiver",
            "webhook",
            id=call.id,
            by=call.path.strip("/"),
            task=data.get("task_id"),
            state=data.get("state"),
            text=(data.get("result") or {}).get("text"),
            sha256=hashlib.sha256(call.body).hexdigest(),
            tenant=self._signed_by(call),
            tries=tries,
        )
        answer(handler, call)
        with self._lock:
            self._tasks.add(str(data.get("task_id")))

    def _signed_by(self, call: Call) -> str | None:
        """The tenant; whether it is the right one is for the checker to say."""
        for tenant, secret in self._secrets.items():
            try:
                Webhook(secret).verify(call.body, call.headers)
                return tenant
            except WebhookVerificationError:
                continue
        return None

    def wait_for_the_last(self, journal: Path, timeout_s: float) -> None:
        """Of the tasks that were to be told about, and that their clients did not delete."""
        wanted: dict[str, bool] = {}  # who → a webhook was asked for
        tasks: set[str] = set()
        for line in read(journal):
            if line.kind in ("asked", "live_asked"):
                wanted[line.who] = line.data["webhook"]
            elif line.kind == "deleting":
                tasks.discard(line.data["task"])
            elif wanted.get(line.who) and (task := told_task(line)):
                tasks.add(task)
        deadline = time.monotonic() + timeout_s
        while tasks - self._tasks and time.monotonic() < deadline and not self._door.enough.is_set():
            time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
