"""Celery alone, with a task that does nothing: workers as `cosygate worker` has them (its settings, pool of threads),
producers as the gateways are, and a queue of its own. Run as a program:

    python -m bench.cluster.nothing worker --broker URL --jobs N --parent-pid P [--no-events]

prints `ready`; after SIGTERM, when each of its tasks had ended, as one line of JSON. Without an argument it is a
producer (a plan by standard input, as sending.py).
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from typing import Any

import kombu
from celery import Celery, signals

from bench.cluster.sending import cpu_s, say
from cosygate.adapters.queue_celery import make_app
from cosygate.kit.lineage import die_with_parent

TASK, QUEUE = "bench.nothing", "bench.nothing"


@dataclass(frozen=True, slots=True)
class Plan:
    broker: str
    count: int
    events: bool = True


def app(broker: str, *, events: bool) -> Celery:
    made = make_app(broker)
    made.conf.update(task_default_queue=QUEUE, task_queues=[kombu.Queue(QUEUE, routing_key=QUEUE)])
    if not events:  # as Celery comes
        made.conf.update(worker_send_task_events=False, task_send_sent_event=False)
    return made


def work(broker: str, jobs: int, *, events: bool) -> None:
    """Until SIGTERM."""
    ended: list[float] = []
    made = app(broker, events=events)

    @made.task(name=TASK, ignore_result=True)  # type: ignore[untyped-decorator]
    def nothing(job_ids: list[str]) -> bool:
        ended.append(time.monotonic())
        return True

    signals.setup_logging.connect(lambda **_: None, weak=False)
    signals.worker_ready.connect(lambda **_: print("ready", flush=True), weak=False)
    # As in src/cosygate/worker/celery_process.py.
    made.Worker(
        pool="threads", concurrency=jobs, queues=[QUEUE], quiet=True, without_gossip=True, without_mingle=True
    ).start()
    say(ended=ended)


def produce(plan: Plan) -> dict[str, Any]:
    """As CeleryBroker does it, a message for each job."""
    made = app(plan.broker, events=plan.events)
    before, began = cpu_s(), time.monotonic()
    for number in range(plan.count):
        made.send_task(
            TASK,
            args=[[f"{number:032x}"]],
            queue=QUEUE,
            routing_key=QUEUE,
            retry=False,
            ignore_result=True,
        )
    return {"began": began, "sent": time.monotonic(), "cpu": cpu_s() - before}


def main() -> None:
    if len(sys.argv) == 1:
        plan = Plan(**json.loads(sys.stdin.readline()))
        say(at="ready")
        if sys.stdin.readline():  # else whoever started it is gone
            say(**produce(plan))
        return
    parser = argparse.ArgumentParser(prog="python -m bench.cluster.nothing")
    parser.add_argument("what", choices=["worker"])
    parser.add_argument("--broker", required=True)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--no-events", action="store_true")
    parser.add_argument("--parent-pid", type=int, required=True)
    args = parser.parse_args()
    if not die_with_parent(args.parent_pid):
        return
    work(args.broker, args.jobs, events=not args.no_events)


if __name__ == "__main__":
    main()
