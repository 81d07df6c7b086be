"""Gateways that are killed and started again, as the metrics tell it: nothing goes back, nothing counts twice."""

from __future__ import annotations

import os
import time
from pathlib import Path

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.api.conftest import wav
from tests.support.server import Server, wait_task


def scraped(server: Server) -> dict[str, float]:
    """name{labels} → value, of what only rises; and the gauges that tell of processes."""
    text = httpx2.get(f"{server.url}/metrics", timeout=30).text
    return {
        f"{s.name}{sorted(s.labels.items())}": s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
        if family.type in ("counter", "histogram") or s.name.startswith("cv_gateway")
    }


def test_counters_go_on_and_gauges_begin_anew(tmp_path: Path) -> None:
    with Server(tmp_path, recogniser="scripted", workers=2, durability="process") as server, server.http() as http:
        place = tmp_path.stat()
        folder = Path(f"/dev/shm/cosygate-{os.getuid()}-{place.st_dev:x}-{place.st_ino:x}")
        for number in range(8):
            done = http.put(f"/v1/audio/s{number}/0", content=wav(0.2), params={"is_last": "1"})
            wait_task(http, done.json()["task_id"])
        files = sorted(path.name for path in folder.glob("*.db"))
        last = scraped(server)
        victim = server.find("cosygate.gateway")[0]
        slot = f"g{victim.cmdline()[victim.cmdline().index('--index') + 1]}"
        old = (folder / f"gauge_livesum_{slot}.db").stat().st_ino
        started = last["cv_gateway_start_time_seconds[]"]
        victim.kill()
        deadline = time.monotonic() + 30
        while last["cv_gateway_start_time_seconds[]"] == started or last["cv_gateways[]"] != 2:
            assert time.monotonic() < deadline, "the gateway was not started again"
            now = scraped(server)
            assert {name for name, value in last.items() if now.get(name, -1.0) < value} <= {"cv_gateways[]"}
            last = now
        assert (folder / f"gauge_livesum_{slot}.db").stat().st_ino != old  # swept, and not just written over
        assert sorted(path.name for path in folder.glob("*.db")) == files
        assert last["cv_task_total[('state', 'succeeded')]"] == 8
        assert last["cv_task_duration_count[]"] == 8
        assert last["cv_audio_seconds_total[('door', 'file')]"] == pytest.approx(8 * 0.2)
