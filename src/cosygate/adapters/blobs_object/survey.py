"""What housekeeping asks of the store: how much, how old, what a crash left behind, and whether it answers."""

from __future__ import annotations

import asyncio
import re

from cosygate.adapters.blobs_object.bucket import Bucket
from cosygate.adapters.blobs_object.ledger import UPLOADS, folder
from cosygate.adapters.blobs_object.scratch import Scratch
from cosygate.adapters.blobs_object.tally import USAGE, Tally
from cosygate.kit.clock import Clock

_HEARD_S = 5.0  # a store that answered so long ago is not asked again whether it does
_AT_ONCE = 4  # folders that are listed side by side
_UUID7 = re.compile(r"[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}")


class ObjectSurvey:
    """A StoreSurvey. Ages are the wall clock's, for retention only."""

    def __init__(self, bucket: Bucket, scratch: Scratch, tally: Tally, clock: Clock) -> None:
        self._bucket = bucket
        self._scratch = scratch
        self._tally = tally
        self._clock = clock

    async def used_bytes(self) -> int:
        await self._tally.fresh()
        return self._tally.used()

    async def free_bytes(self) -> int:
        await self._tally.fresh()
        return self._tally.left()

    async def check_room(self) -> None:
        """Raises StorageUnavailable, too."""
        if self._clock.monotonic() - self._bucket.answered_at > _HEARD_S:
            await self._bucket.head(USAGE)
        self._tally.check(1)
        await self._scratch.run(self._scratch.check_room, 0)

    async def uploads(self) -> dict[str, float]:
        """Also those of which an erasure or a put that was killed has left something. A listing of folders tells no
        times; our ids do, and that of its beginning is early enough for whoever asks what nobody knows any more."""
        places = asyncio.Semaphore(_AT_ONCE)

        async def one(shard: str) -> list[str]:
            async with places:
                return await self._bucket.folders(f"{UPLOADS}/{shard}")

        shards = await self._bucket.folders(UPLOADS)
        names = [name for found in await asyncio.gather(*map(one, shards)) for name in found]
        ages = {name: await self._age(name) for name in names}
        return {name: age for name, age in ages.items() if age is not None}

    async def _age(self, upload_id: str) -> float | None:
        """None when it is gone."""
        if _UUID7.fullmatch(upload_id):
            return max(0.0, self._clock.now() - int(upload_id[:12], 16) / 1000)
        found = await self._bucket.found(folder(UPLOADS, upload_id))
        if not found:
            return None
        return max(0.0, self._clock.now() - max(one.changed.timestamp() for one in found))

    async def sweep(self, older_than_s: float) -> int:
        return await self._scratch.run(self._scratch.sweep, older_than_s)
