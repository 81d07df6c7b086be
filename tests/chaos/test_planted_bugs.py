"""The chaos checker finds bugs that are planted in a real server: a commit without its fence, lost rows. Beside each is
the same run without the bug, in which it finds nothing."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

import cosygate
from tests.chaos.cluster import plan
from tests.chaos.cluster.embedded import Embedded
from tests.chaos.cluster.running import Plan, calm, check, credentials, embedded, running_clients
from tests.support.faults import stopped, wait_for

SOURCE = Path(cosygate.__file__).parent
FENCE = ' & (jobs.c.fence == bindparam("held_fence"))'
ANY_FENCE = ' & (jobs.c.fence >= bindparam("held_fence") * 0)'


def without_the_fence(folder: Path) -> str:
    """A copy of the sources in which every write under a claim takes any claim."""
    shutil.copytree(SOURCE, folder / "cosygate", ignore=shutil.ignore_patterns("__pycache__"))
    leases = folder / "cosygate" / "adapters" / "records_sql" / "leases.py"
    text = leases.read_text()
    assert text.count(FENCE) == 1, "the fence is written differently now: plant the bug anew"
    leases.write_text(text.replace(FENCE, ANY_FENCE))
    return str(folder)


def seed_of(wanted: Any, recordings: int, seconds: float) -> int:
    """The first whose recordings are all as wanted."""
    return next(n for n in range(10_000) if all(map(wanted, plan.recordings(n, recordings, seconds))))


def rules(report: dict[str, Any]) -> set[str]:
    return {violation["rule"] for violation in report["violations"]}


@contextmanager
def clients(server: Embedded, folder: Path, asked: Plan, *more: str) -> Iterator[Any]:
    """Under way; the block's result is the checker's report, once they have ended."""
    tokens, told = credentials(server, folder / "tokens.json"), {}
    with running_clients(server.url, folder, asked, *more) as running:
        yield told
        assert running.wait(120) == 0
    calm(server)
    status, _, report = check(server.url, folder / "journal.jsonl", tokens, folder / "report.json", wait_s=30)
    assert (status == 0) == report["kept"]
    told["report"] = report


@pytest.mark.slow
@pytest.mark.parametrize("planted", [True, False], ids=["planted", "sound"])
def test_a_commit_without_its_fence(tmp_path: Path, planted: bool) -> None:
    """A gateway stops in the middle of its jobs, another takes them over, and it wakes up while that one works."""
    seconds, count = 1.0, 3
    seed = seed_of(lambda one: one.fate == "keep" and not one.webhook and one.seconds > 1.0, count, seconds)
    environment = {"PYTHONPATH": without_the_fence(tmp_path / "planted")} if planted else {}
    leases = {"lease_renew_s": 0.5, "lease_expire_s": 2, "reaper_every_s": 0.5, "watch_every_s": 60}
    script = plan.SCRIPT | {"delay_s": 1.2}
    with embedded(tmp_path, script=script, environment=environment, runner_jobs=4, engine_slots=4, **leases) as server:
        victim = server.server
        with clients(server, tmp_path, Plan(seed, count, 0, seconds)) as told:
            [row, *_] = wait_for(lambda: victim.rows("SELECT * FROM jobs WHERE state = 'running'"), "a running job")
            job = row["id"]
            with stopped(victim, victim.gateway(int(row["claimant"].rpartition("/")[2]))):
                wait_for(lambda: victim.job(job)["fence"] > row["fence"], "the other gateway's claim")
                time.sleep(0.3)  # it works, and is far from done
                assert victim.job(job)["state"] == "running"
    if planted:
        assert rules(told["report"]) & {"task_missing", "events_two_ends", "events_wrong"}, told["report"]
        for violation in told["report"]["violations"]:
            assert any(line["data"].get("task") for line in violation["lines"]), "the lines that show it"
    else:
        assert told["report"]["violations"] == []


LOSE_JOB = """CREATE TRIGGER planted AFTER INSERT ON outbox WHEN NEW.seq % 3 = 0
              BEGIN DELETE FROM jobs WHERE id = NEW.job_id; END"""
LOSE_DELIVERY = """CREATE TRIGGER planted AFTER INSERT ON deliveries
                   BEGIN DELETE FROM deliveries WHERE id = NEW.id; END"""
LOSE_HINT = "CREATE TRIGGER planted AFTER INSERT ON outbox BEGIN DELETE FROM outbox WHERE seq = NEW.seq; END"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bug", "found"),
    [
        pytest.param(LOSE_JOB, {"task_missing"}, id="job"),
        pytest.param(LOSE_DELIVERY, {"webhook_missing"}, id="delivery"),
        # No bug but by design: whoever runs jobs looks for them (tests/unit/test_chaos_outbox.py).
        pytest.param(LOSE_HINT, set(), id="outbox row"),
        pytest.param("", set(), id="sound"),
    ],
)
def test_lost_rows(tmp_path: Path, bug: str, found: set[str]) -> None:
    """A database that forgets what was committed: of every third recording the job, or what webhooks are sent from, or
    what says that there is a job."""
    seconds, count = 2.0, 8

    def wanted(one: plan.Recording) -> bool:
        return one.fate == "keep" and not one.library and one.follow != "events"

    seed = next(
        n
        for n in range(10_000)
        if all(map(wanted, work := plan.recordings(n, count, seconds))) and any(one.webhook for one in work)
    )
    with embedded(tmp_path) as server:
        with closing(sqlite3.connect(server.server.data_dir / "cosygate.db", timeout=10)) as database:
            database.executescript(f"{bug};")
        with clients(server, tmp_path, Plan(seed, count, 0, seconds), "--webhooks", "5") as told:
            pass
    also = {"refused_unasked"} if bug == LOSE_JOB else set()  # whoever asks for a lost one is told that there is none
    assert found <= rules(told["report"]) <= found | also, told["report"]["violations"]
    assert told["report"]["counts"]["recordings acknowledged"] == count
