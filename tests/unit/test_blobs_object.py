"""The object store's adapter: what it asks of a store, how it reads, counts, copies, and tells errors."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx2
import obstore
import pytest
from obstore import exceptions as foreign
from obstore.store import S3Store

from cosygate import errors
from cosygate.adapters.blobs_disk import DiskStore
from cosygate.adapters.blobs_object import Copied, ObjectStore, copy_blobs
from cosygate.adapters.blobs_object.bucket import ERRORS, Bucket, Budget, translated
from cosygate.adapters.blobs_object.ledger import Entry, Kind, entry_key, parse, part_key
from cosygate.adapters.blobs_object.reading import read_pieces
from cosygate.adapters.blobs_object.tally import USAGE
from cosygate.model.upload import LastMark, Listing
from tests.support.blob_stores import (
    CREDENTIALS,
    MovedClock,
    in_pieces,
    object_store,
    put,
    read,
    shared_server,
)
from tests.support.scripted_http import Answer, Request, serving

MIB = 1024**2


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ObjectStore]:
    async with object_store(tmp_path / "s") as opened:
        yield opened


@pytest.fixture
def raw(tmp_path: Path) -> S3Store:
    """The same place, without the adapter."""
    endpoint = shared_server().endpoint
    options: Any = {**CREDENTIALS, "client_options": {"allow_http": True}}
    return S3Store("cosygate", prefix=str(tmp_path / "s").strip("/"), endpoint=endpoint, **options)


def objects(raw: S3Store) -> dict[str, int]:
    return {one["path"].rpartition("/")[2]: one["size"] for page in obstore.list(raw, "uploads") for one in page}


# --- what is stored ----------------------------------------------------------------------------------------------


async def test_a_part_is_an_object_with_its_digest_and_a_place_beside_it(store: ObjectStore, raw: S3Store) -> None:
    await put(store, "u1", 7, b"seven")
    assert objects(raw) == {"p000000007": 5, "x0000": 16}
    told = obstore.get(raw, part_key("u1", 7)).attributes
    assert told["sha256"] == hashlib.sha256(b"seven").hexdigest()
    assert told["Content-Type"] == "application/octet-stream"  # a browser never renders what strangers sent


async def test_a_recording_of_one_part_has_a_mark_that_stands_from_the_beginning(
    store: ObjectStore, raw: S3Store
) -> None:
    listing = await put(store, "u1", 0, b"all of it", LastMark(0, '{"a":1}'))
    assert listing.complete
    assert sorted(objects(raw)) == ["p000000000", "x0000"]
    entry = parse(bytes(obstore.get(raw, entry_key("u1", 0)).bytes()))
    assert entry == Entry(Kind.MARK, LastMark(0, '{"a":1}'))


async def test_what_was_copied_here_without_its_digest_is_compared_byte_by_byte(
    store: ObjectStore, raw: S3Store
) -> None:
    await put(store, "u1", 0, b"first")
    await obstore.put_async(raw, part_key("u1", 1), b"second")
    assert await put(store, "u1", 1, b"second") == Listing({0: 5, 1: 6})
    with pytest.raises(errors.PartConflict):
        await put(store, "u1", 1, b"secret")


@pytest.mark.parametrize("data", [b"", b"{}", b'{"kind":"mark"}', b'{"kind":"else"}', b"\xff" * 17])
async def test_a_damaged_entry_is_told_and_can_be_given_up(store: ObjectStore, raw: S3Store, data: bytes) -> None:
    await put(store, "u1", 0, b"a")
    await obstore.put_async(raw, entry_key("u1", 1), data)
    with pytest.raises(errors.Conflict, match="damaged"):
        await store.parts.list("u1")
    await store.parts.erase("u1")
    assert objects(raw) == {}


@pytest.mark.parametrize("name", ["", "../u1", "a/b", "ü", "x" * 200])
async def test_ids_that_cannot_be_ours_are_a_bug(store: ObjectStore, name: str) -> None:
    with pytest.raises(ValueError, match="not an id"):
        await store.parts.list(name)


async def test_large_bodies_pass_through_a_file_without_a_name(store: ObjectStore, tmp_path: Path) -> None:
    data = os.urandom(9 * MIB)
    received = await store.parts.receive(in_pieces(data), limit=16 * MIB)
    assert list((tmp_path / "s/scratch").iterdir()) == []
    held = sum(map(len, received._pieces))  # type: ignore[attr-defined]
    assert held == 0  # in memory
    listing = await store.parts.put("u1", 0, received, create=True)
    await received.close()
    assert await read(store, "u1", listing) == data
    assert len(os.listdir("/proc/self/fd")) < 200


# --- reading -----------------------------------------------------------------------------------------------------


class Counting:
    """A Bucket's `span`, which counts those that are under way."""

    def __init__(self, takes_s: float = 0.002) -> None:
        self.now = self.most = self.asked = 0
        self._takes_s = takes_s

    async def span(self, key: str, start: int, length: int) -> bytes:
        self.asked += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self._takes_s if self.asked > 1 else 0)
        finally:
            self.now -= 1
        return key[-4:].encode() * (length // 4)


async def test_many_parts_are_read_side_by_side_and_in_order() -> None:
    bucket = Counting()
    listing = Listing(dict.fromkeys(range(2000), 4))
    pieces = read_pieces(bucket, "u1", listing, 0, 8000)  # type: ignore[arg-type]
    assert b"".join([p async for p in pieces]) == b"".join(b"%04d" % n for n in range(2000))
    assert bucket.most > 100


async def test_a_few_pieces_are_fetched_ahead_and_none_for_a_reader_who_left() -> None:
    bucket = Counting(takes_s=30)
    large = Listing(dict.fromkeys(range(20), MIB))
    began = time.monotonic()
    async with aclosing(read_pieces(bucket, "u1", large, 0, 20 * MIB)) as slow:  # type: ignore[arg-type, type-var]
        assert len(await anext(slow)) == MIB
        assert bucket.asked == 5
    assert bucket.now == 0
    assert time.monotonic() - began < 10


async def test_a_reader_who_leaves_ends_what_was_fetched_for_him(store: ObjectStore) -> None:
    for n in range(8):
        listing = await put(store, "u1", n, bytes(MIB))
    async with aclosing(store.parts.read("u1", listing, 0, 8 * MIB)) as pieces:  # type: ignore[type-var]
        await anext(pieces)
    assert not [t for t in asyncio.all_tasks() if "_piece" in repr(t)]


async def test_a_part_that_is_shorter_than_it_was_is_gone(store: ObjectStore, raw: S3Store) -> None:
    await put(store, "u1", 0, b"abc")
    listing = await put(store, "u1", 1, b"def")
    await obstore.put_async(raw, part_key("u1", 1), b"d")
    with pytest.raises(errors.AudioGone):
        await read(store, "u1", listing)
    with pytest.raises(errors.AudioGone):
        await store.recordings.open("u1", listing)
    assert len(list(Path("/proc/self/fd").iterdir())) < 200


async def test_a_recording_that_does_not_fit_the_local_disk_is_refused(tmp_path: Path) -> None:
    async with object_store(tmp_path / "s") as store:
        listing = await put(store, "u1", 0, b"abc")
        store._scratch._min_free = 1 << 60
        with pytest.raises(errors.StorageFull):
            await store.recordings.open("u1", listing)
        with pytest.raises(errors.StorageFull):
            await store.survey.check_room()
        with pytest.raises(errors.StorageFull):
            await store.parts.receive(in_pieces(bytes(3 * MIB)), limit=4 * MIB)


async def test_bytes_under_way_are_bounded_and_first_come_first_served() -> None:
    budget = Budget(10)
    order: list[int] = []

    async def one(size: int) -> None:
        async with budget.hold(size):
            order.append(size)
            await asyncio.sleep(0.01)

    await asyncio.gather(one(6), one(25), one(3))
    assert order == [6, 25, 3]  # the large one is not overtaken for ever


# --- counting ----------------------------------------------------------------------------------------------------


async def test_one_counts_and_others_read_its_sum(tmp_path: Path, raw: S3Store) -> None:
    async with object_store(tmp_path / "s", count_every_s=600) as one:
        await put(one, "u1", 0, bytes(1000))
        assert await one.survey.used_bytes() == 1000
        assert json.loads(bytes(obstore.get(raw, USAGE).bytes()))["bytes"] == 0  # counted when it began
    async with object_store(tmp_path / "s", count_every_s=600) as two:
        assert await two.survey.used_bytes() == 0  # nobody has counted since: that is the error
        await put(two, "u2", 0, bytes(10))
        await two.results.put("j1", 1, bytes(5))
        assert await two.survey.used_bytes() == 15
        await two.parts.erase("u2")
        await two.results.erase("j1")
        assert await two.survey.used_bytes() == 0
        assert await two.survey.free_bytes() == 64 * MIB
    async with object_store(tmp_path / "s", count_every_s=0) as three:
        assert await three.survey.used_bytes() == 1000


async def test_a_sum_of_somebody_else_has_our_own_earlier_changes(tmp_path: Path) -> None:
    clock = MovedClock()
    async with object_store(tmp_path / "s", count_every_s=600) as one, object_store(tmp_path / "s") as two:
        one._tally._clock = two._tally._clock = clock
        await put(one, "u1", 0, bytes(1000))
        clock.shift = 601
        two._tally._every_s = 600
        assert await two.survey.used_bytes() == 1000  # counted, and left for others
        clock.shift = 602
        await put(one, "u1", 1, bytes(10))
        assert await one.survey.used_bytes() == 1010


async def test_it_is_counted_again_in_time(tmp_path: Path) -> None:
    clock = MovedClock()
    async with object_store(tmp_path / "s", count_every_s=600) as store, object_store(tmp_path / "s") as other:
        store._tally._clock = clock
        await put(other, "u1", 0, bytes(1000))
        await put(store, "u2", 0, bytes(10))
        assert await store.survey.used_bytes() == 10
        clock.shift = 601
        assert await store.survey.used_bytes() == 1010
        await put(store, "u2", 1, bytes(10))
        assert await store.survey.used_bytes() == 1020


async def test_the_bound_holds_within_a_process(tmp_path: Path) -> None:
    async with object_store(tmp_path / "s", 4 * MIB, count_every_s=600) as store:
        outcomes = await asyncio.gather(
            *(put(store, f"u{n}", 0, bytes(MIB // 2)) for n in range(12)), return_exceptions=True
        )
        assert sum(isinstance(one, Listing) for one in outcomes) == 8
        assert {type(one) for one in outcomes} == {Listing, errors.StorageFull}
        with pytest.raises(errors.StorageFull):
            await store.results.put("j1", 1, b"{}")
        with pytest.raises(errors.StorageFull):
            await store.survey.check_room()
        with pytest.raises(errors.StorageFull):  # also while it is still coming in
            await store.parts.receive(in_pieces(bytes(3 * MIB)), limit=8 * MIB)
        there = next(n for n, one in enumerate(outcomes) if isinstance(one, Listing))
        assert await put(store, f"u{there}", 0, bytes(MIB // 2)) == Listing({0: MIB // 2})  # a repeat needs no room
        await store.parts.erase(f"u{there}")
        await store.results.put("j1", 1, b"{}")


# --- housekeeping ------------------------------------------------------------------------------------------------


async def test_ages_are_told_by_ids_and_leftovers_are_found(store: ObjectStore, raw: S3Store) -> None:
    old = "018c0000000070008000" + "0" * 12
    assert uuid.UUID(old).version == 7
    await put(store, old, 0, b"a")
    await obstore.put_async(raw, part_key("left", 3), b"of an erasure that was killed")
    ages = await store.survey.uploads()
    assert set(ages) == {old, "left"}
    assert ages[old] > 10_000_000 > 30 > ages["left"] >= 0
    await store.parts.erase("left")
    assert set(await store.survey.uploads()) == {old}


async def test_sweeping_removes_what_a_crash_left_on_the_local_disk(store: ObjectStore, tmp_path: Path) -> None:
    for name, age in (("old", 4000), ("new", 0)):
        path = tmp_path / "s/scratch" / name
        path.write_bytes(b"x")
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    assert await store.survey.sweep(3600) == 1
    assert [path.name for path in (tmp_path / "s/scratch").iterdir()] == ["new"]


# --- errors and start-up -----------------------------------------------------------------------------------------


def test_every_foreign_error_has_ours() -> None:
    known = [one for one in vars(foreign).values() if isinstance(one, type) and issubclass(one, Exception)]
    assert len(known) > 8
    for one in known:
        ours = translated(one("with http://an.address/?X-Amz-Signature=secret"))
        assert type(ours) is errors.StorageUnavailable
        assert ours.retryable and ours.status == 503
        assert "secret" not in ours.detail and "address" not in ours.detail
    assert type(translated(foreign.GenericError("<Code>XMinioStorageFull</Code>"))) is errors.StorageFull
    assert foreign.BaseError in ERRORS


def scripted(url: str, folder: Path, **more: Any) -> ObjectStore:
    return ObjectStore("s3://bucket/p", folder, endpoint=url, credentials=CREDENTIALS, timeout_s=1.0, **more)


def xml(code: str, status: int) -> Answer:
    return Answer(status, f"<Error><Code>{code}</Code></Error>".encode(), "application/xml")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (xml("AccessDenied", 403), "refuses access"),
        (xml("InvalidAccessKeyId", 403), "refuses access"),
        (xml("NoSuchBucket", 404), "bucket does not exist"),
    ],
)
async def test_a_store_that_cannot_be_used_ends_the_start(tmp_path: Path, answer: Answer, told: str) -> None:
    with serving(lambda _: answer) as url, pytest.raises(ValueError, match=told):
        await scripted(url, tmp_path).start()


async def test_a_store_that_overwrites_ends_the_start(tmp_path: Path) -> None:
    """A store that does not know If-None-Match would let two writers of one part both win."""

    def answer(request: Request) -> Answer:
        kind = {"GET": "ListBucketResult", "POST": "DeleteResult"}.get(request.method, "")
        deleted = "<Deleted><Key>x</Key></Deleted>" if kind == "DeleteResult" else ""
        body = f'<{kind} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{deleted}</{kind}>' if kind else ""
        return Answer(200, body.encode(), headers={"ETag": '"e"'})

    with serving(answer) as url, pytest.raises(ValueError, match="If-None-Match"):
        await scripted(url, tmp_path).start()


async def test_a_full_store_is_told_as_full(tmp_path: Path) -> None:
    with serving(lambda _: xml("XMinioStorageFull", 507)) as url, pytest.raises(errors.StorageFull):
        await scripted(url, tmp_path).start()


async def test_a_store_that_asks_for_patience_is_asked_again(tmp_path: Path) -> None:
    tries: list[str] = []

    def answer(request: Request) -> Answer:
        tries.append(request.method)
        return xml("SlowDown", 503)

    with serving(answer) as url:
        store = scripted(url, tmp_path)
        with pytest.raises(errors.StorageUnavailable):
            await store.results.get("j1", 1)
        assert len(tries) == 3
        await store.close()


@pytest.mark.parametrize(
    ("url", "more", "told"),
    [
        ("ftp://bucket", {}, "s3://"),
        ("gs://bucket", {"endpoint": "http://127.0.0.1:9"}, "store_endpoint is for s3"),
        ("az://container", {}, "store_url cannot be used"),
    ],
)
def test_an_address_that_cannot_be_used_is_told(
    tmp_path: Path, url: str, more: Mapping[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(os.environ):
        if name.startswith("AZURE"):
            monkeypatch.delenv(name)
    with pytest.raises(ValueError, match=told):
        ObjectStore(url, tmp_path, **more)


def test_google_and_azure_open(tmp_path: Path) -> None:
    key = "A" * 86 + "=="
    azure = {"account_name": "me", "account_key": key}
    assert ObjectStore("az://container/p", tmp_path, credentials=azure, public_endpoint="https://x").direct is not None
    ObjectStore("gs://bucket/p", tmp_path, credentials={"skip_signature": "true"})


# --- direct download ---------------------------------------------------------------------------------------------


async def test_a_recording_of_one_part_has_an_address(tmp_path: Path) -> None:
    server = shared_server()
    public = f"http://localhost:{server.port}"
    store = ObjectStore(
        f"s3://cosygate/{tmp_path}", tmp_path / "x", endpoint=server.endpoint, public_endpoint=public,
        credentials=CREDENTIALS, min_free_bytes=0,
    )  # fmt: skip
    async with store:
        listing = await put(store, "u1", 0, b"0123456789", LastMark(0, "{}"))
        assert store.direct is not None
        url = await store.direct.url("u1", listing)
        assert url is not None and url.startswith(f"{public}/cosygate/")
        assert "X-Amz-Expires=300" in url
        async with httpx2.AsyncClient() as client:
            assert (await client.get(url)).content == b"0123456789"
            part = await client.get(url, headers={"Range": "bytes=2-4"})
            assert (part.status_code, part.content) == (206, b"234")
        several = await put(store, "u2", 0, b"a") and await put(store, "u2", 1, b"b", LastMark(1, "{}"))
        assert await store.direct.url("u2", several) is None


async def test_without_a_public_address_there_is_none(store: ObjectStore) -> None:
    assert store.direct is None


# --- moving ------------------------------------------------------------------------------------------------------


async def test_an_embedded_installations_blobs_are_copied(store: ObjectStore, tmp_path: Path) -> None:
    parts = {0: os.urandom(10), 1: os.urandom(2 * MIB), 2: b""}
    async with DiskStore(tmp_path / "disk", min_free_bytes=0) as disk:
        for seq, data in parts.items():
            await put(disk, "whole", seq, data, LastMark(2, '{"a":1}') if seq == 2 else None)
        await put(disk, "open", 5, b"five")
        await disk.results.put("j1", 3, b"{}")
        await disk.results.put("j1", 4, b"[]")
    for _ in range(2):  # again is fine
        done = await copy_blobs(tmp_path / "disk", store)
        assert done == Copied(uploads=2, parts=4, results=2, bytes=10 + 2 * MIB + 4 + 4)
    whole = await store.parts.list("whole")
    assert whole.complete and whole.mark == LastMark(2, '{"a":1}')
    assert await read(store, "whole", whole) == b"".join(parts.values())
    assert await store.parts.list("open") == Listing({5: 4})
    assert await store.results.get("j1", 3) == b"{}"
    await put(store, "other", 0, b"mine")
    async with DiskStore(tmp_path / "disk", min_free_bytes=0) as disk:
        await put(disk, "other", 0, b"theirs")
    with pytest.raises(errors.PartConflict):
        await copy_blobs(tmp_path / "disk", store)


async def test_what_was_swept_before_its_rows_came_is_copied_once_more(store: ObjectStore, tmp_path: Path) -> None:
    """A gateway runs there already, and looks for recordings without a row before `migrate` has brought the rows."""
    old = [f"{int((time.time() - 7_200 - n) * 1000):012x}7abc8{n:015x}" for n in range(3)]
    async with DiskStore(tmp_path / "disk", min_free_bytes=0) as disk:
        for name in old:
            await put(disk, name, 0, b"one")
            await put(disk, name, 1, b"two", LastMark(1, "{}"))
        await disk.results.put("j1", 1, b"{}")
    await copy_blobs(tmp_path / "disk", store)
    assert min((await store.survey.uploads()).values()) > 3_600, "just copied, and old: what has no row is swept"
    await store.parts.erase(old[1])
    assert await copy_blobs(tmp_path / "disk", store, missing_only=True) == Copied(uploads=1, parts=2, bytes=6)
    for name in old:
        listing = await store.parts.list(name)
        assert listing.complete and await read(store, name, listing) == b"onetwo"
    assert await copy_blobs(tmp_path / "disk", store, missing_only=True) == Copied()


# --- nothing of this without it ----------------------------------------------------------------------------------

_EMBEDDED = """
import asyncio, sys
from pathlib import Path
from cosygate.settings import Settings
from cosygate.wiring import open_house

async def main():
    async with open_house(Settings(data_dir=Path(sys.argv[1])), [], 0):
        print(sorted(n for n in sys.modules if n.split(".")[0] in {"obstore", "boto3", "moto"}))

asyncio.run(main())
"""


def test_an_embedded_house_imports_no_obstore(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("COSYGATE_")}
    done = subprocess.run(
        [sys.executable, "-c", _EMBEDDED, str(tmp_path)], capture_output=True, text=True, timeout=60, env=clean
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_bucket_is_all_that_touches_obstore() -> None:
    """So that its errors are translated in one place, and its requests bounded."""
    folder = Path(sys.modules[Bucket.__module__].__file__ or "").parent
    users = {path.name for path in folder.glob("*.py") if "import obstore" in path.read_text()}
    assert users == {"bucket.py", "direct.py"}
