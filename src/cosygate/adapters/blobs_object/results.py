"""Transcripts: one object per job and fence, replaced whole."""

from __future__ import annotations

from cosygate.adapters.blobs_object.bucket import Bucket
from cosygate.adapters.blobs_object.ledger import RESULTS, folder
from cosygate.adapters.blobs_object.tally import Tally


class ObjectResults:
    """A ResultStore. A result that is replaced counts twice until the next count (tally.py)."""

    def __init__(self, bucket: Bucket, tally: Tally) -> None:
        self._bucket = bucket
        self._tally = tally

    async def put(self, job_id: str, fence: int, data: bytes) -> None:
        self._tally.take(len(data))
        try:
            await self._bucket.replace(_key(job_id, fence), data)
        except BaseException:
            self._tally.give_back(len(data))
            raise
        self._tally.stored(len(data))

    async def get(self, job_id: str, fence: int) -> bytes | None:
        return await self._bucket.get(_key(job_id, fence))

    async def erase(self, job_id: str, fence: int | None = None) -> None:
        found = await self._bucket.found(folder(RESULTS, job_id))
        gone = [one for one in found if fence is None or one.key == _key(job_id, fence)]
        await self._bucket.delete([one.key for one in gone])
        self._tally.freed(sum(one.size for one in gone))


def _key(job_id: str, fence: int) -> str:
    return f"{folder(RESULTS, job_id)}/{fence}"
