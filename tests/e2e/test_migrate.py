"""An installation outgrows its machine: `cosygate migrate --from … --blobs`, and what it had goes on elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from tests.api.conftest import wav
from tests.support.server import Server, wait_task
from tests.support.services import fresh_database, object_store


@pytest.mark.needs("postgres")
def test_tasks_and_recordings_of_an_embedded_server_are_found_on_the_shared_one(data_dir: Path, tmp_path: Path) -> None:
    recording = wav(1.0)
    with Server(data_dir, recogniser="scripted") as before, before.http("ann") as api:
        task_id = api.put("/v1/audio/moved/0", params={"is_last": "1"}, content=recording).json()["task_id"]
        done = wait_task(api, task_id)
        transcript = api.get(f"/v1/task/{task_id}/transcript", params={"format": "json"}).json()
        token = before.token("ann")
    assert done["state"] == "succeeded"
    secret = (data_dir / "jwt_secret").read_text()
    with fresh_database() as database, object_store() as store:
        shared = {
            "database_url": database,
            "store_url": "s3://cosygate/moved",
            "store_endpoint": store.endpoint,
            "jwt_secret": secret,
            "recogniser": "scripted",
        }
        env = {k: v for k, v in os.environ.items() if not k.startswith("COSYGATE_")} | dict(store.credentials)
        env |= {f"COSYGATE_{k.upper()}": v for k, v in shared.items()}
        source = f"sqlite:///{data_dir / 'cosygate.db'}"
        argv = [sys.executable, "-m", "cosygate", "migrate", "--from", source, "--blobs", "--data-dir", str(tmp_path)]
        moved = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=110)
        assert moved.returncode == 0, moved.stderr
        assert "copied 1 parts of 1 recordings and 1 results" in moved.stdout
        after = Server(tmp_path / "gateway", **shared)
        after.data_dir.mkdir()
        after.env |= dict(store.credentials)
        with after, httpx2.Client(base_url=after.url, headers={"Authorization": f"Bearer {token}"}) as api:
            assert api.get(f"/v1/task/{task_id}").json() == done
            found = api.get(f"/v1/task/{task_id}/transcript", params={"format": "json"}).json()
            assert found == transcript
            assert api.get(f"/v1/task/{task_id}/audio").content == recording
            again = api.put("/v1/audio/new/0", params={"is_last": "1"}, content=recording).json()["task_id"]
            assert wait_task(api, again)["state"] == "succeeded"
