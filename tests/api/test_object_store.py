"""A real server on an object store: recordings, transcripts, direct downloads, and a store that is away."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from deploy.local_cluster.services import ObjectStore
from tests.api.conftest import code_of, wav
from tests.support import services
from tests.support.server import Server, wait_task


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with services.object_store() as running:
        yield running


@pytest.fixture(scope="module")
def public(store: ObjectStore) -> str:
    return f"http://localhost:{store.port}"  # another name than ours: what clients see


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, store: ObjectStore, public: str) -> Iterator[Server]:
    running = Server(
        tmp_path_factory.mktemp("store"),
        recogniser="scripted",
        engines=1,
        store_url="s3://cosygate/some/place",
        store_endpoint=store.endpoint,
        store_public_endpoint=public,
    )
    running.env |= store.credentials
    with running:
        yield running


def sent(alice: httpx2.Client, name: str, *chunks: bytes) -> str:
    for seq, chunk in enumerate(chunks):
        last = {"is_last": "1"} if seq == len(chunks) - 1 else {}
        answer = alice.put(f"/v1/audio/{name}/{seq}", content=chunk, params=last)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


def test_a_recording_is_transcribed_read_and_erased(server: Server, alice: httpx2.Client) -> None:
    data = wav(2.0)
    task_id = sent(alice, "several", data[:10_000], data[10_000:30_000], data[30_000:])
    assert wait_task(alice, task_id)["state"] == "succeeded"
    assert alice.get(f"/v1/task/{task_id}/transcript").status_code == 200
    answer = alice.get(f"/v1/task/{task_id}/audio")  # of several parts: it is streamed
    assert (answer.status_code, answer.content) == (200, data)
    part = alice.get(f"/v1/task/{task_id}/audio", headers={"Range": "bytes=9990-10009"})
    assert (part.status_code, part.content) == (206, data[9990:10010])
    assert not (server.data_dir / "blobs").exists()
    assert alice.delete(f"/v1/task/{task_id}").status_code == 204
    assert code_of(alice.get(f"/v1/task/{task_id}/transcript"))[0] == 404


def test_a_recording_of_one_part_is_fetched_from_the_store(server: Server, alice: httpx2.Client, public: str) -> None:
    data = wav(1.0)
    task_id = sent(alice, "one", data)
    answer = alice.get(f"/v1/task/{task_id}/audio", follow_redirects=False)
    assert answer.status_code == 307
    there = answer.headers["location"]
    assert there.startswith(f"{public}/cosygate/some/place/uploads/")
    assert answer.headers["cache-control"] == "private, no-store"
    assert httpx2.get(there).content == data
    part = httpx2.get(there, headers={"Range": "bytes=0-3"})
    assert (part.status_code, part.content) == (206, b"RIFF")
    signature = re.search(r"X-Amz-Signature=(\w+)", there)
    assert signature is not None
    assert signature[1] not in server.log()
    assert "X-Amz" not in server.log()
    with server.http("bob") as stranger:
        assert code_of(stranger.get(f"/v1/task/{task_id}/audio"))[0] == 404  # nobody else is told


def test_the_page_may_play_from_there(server: Server, public: str) -> None:
    policy = httpx2.get(server.url).headers["content-security-policy"]
    assert f"media-src 'self' blob: {public};" in policy
    assert "connect-src 'self';" in policy


def test_a_store_that_is_away_costs_a_retry(server: Server, alice: httpx2.Client, store: ObjectStore) -> None:
    data = wav(1.0)
    alice.put("/v1/audio/away/0", content=data[:1000]).raise_for_status()
    store.pause()
    try:
        began = time.monotonic()
        answer = alice.put("/v1/audio/away/1", content=data[1000:], params={"is_last": "1"}, timeout=60)
        assert code_of(answer) == (503, "storage_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        assert time.monotonic() - began < 45
        assert alice.get("/health").status_code == 200
    finally:
        store.resume()
    answer = alice.put("/v1/audio/away/1", content=data[1000:], params={"is_last": "1"}, timeout=60)
    assert wait_task(alice, answer.json()["task_id"])["state"] == "succeeded"


def test_a_bucket_that_is_not_there_ends_the_start_with_its_reason(tmp_path: Path, store: ObjectStore) -> None:
    server = Server(tmp_path, recogniser="scripted", store_url="s3://nowhere/x", store_endpoint=store.endpoint)
    env = server.env | store.credentials
    done = subprocess.run(
        [sys.executable, "-m", "cosygate", "serve", "--port", "0"], env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert "the object store cannot be used: the bucket does not exist" in done.stderr
    assert "Traceback" not in done.stderr
