"""Blobs in an object store (S3 and what speaks it, Google Cloud Storage, Azure), shared by any number of processes on
any number of machines: `ObjectStore` opens it, its parts serve the ports. Needs the package obstore."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cosygate import errors
from cosygate.adapters.blobs_object.bucket import Bucket
from cosygate.adapters.blobs_object.copying import Copied, copy_blobs
from cosygate.adapters.blobs_object.direct import DirectDownload
from cosygate.adapters.blobs_object.opening import both, opened, proved
from cosygate.adapters.blobs_object.parts import ObjectParts
from cosygate.adapters.blobs_object.reading import ObjectRecordings
from cosygate.adapters.blobs_object.results import ObjectResults
from cosygate.adapters.blobs_object.scratch import MIB, Scratch
from cosygate.adapters.blobs_object.survey import ObjectSurvey
from cosygate.adapters.blobs_object.tally import Tally
from cosygate.kit.backoff import Backoff
from cosygate.kit.clock import Clock, Randomness, SystemClock, SystemRandomness
from cosygate.ports.blobs import DirectAudio

__all__ = ["Copied", "ObjectStore", "copy_blobs"]

_START_TRIES = 4  # at a store that does not answer when we start, some seconds apart


class ObjectStore:
    """One process's access to the store at `url` (`s3://bucket/prefix`, `gs://…`, `az://container/prefix`).

    endpoint: of another S3 than Amazon's. public_endpoint: the same store as clients reach it; with it `direct` tells
    addresses. scratch: a local folder for bodies and recordings on their way. credentials: obstore's names; what is not
    given comes from the environment. max_bytes bounds recordings and results, nearly (tally.py); count_every_s: seconds
    between two counts of them. timeout_s: of one attempt of a short request; requests and memory_bytes: how many are
    under way at once, and how many bytes of bodies. `start` before use (raises ValueError when the store cannot be
    used, StorageUnavailable when it does not answer, Unavailable for the local folder), `close` after it.
    """

    def __init__(
        self,
        url: str,
        scratch: Path,
        *,
        endpoint: str = "",
        public_endpoint: str = "",
        credentials: Mapping[str, str] | None = None,
        max_bytes: int = 50 * 1024**3,
        min_free_bytes: int = 64 * MIB,
        count_every_s: float = 900.0,
        timeout_s: float = 10.0,
        requests: int = 64,
        memory_bytes: int = 128 * MIB,
        clock: Clock | None = None,
        randomness: Randomness | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._randomness = randomness or SystemRandomness()
        given = credentials or {}
        quick, bodies = both(url, endpoint, given, timeout_s)
        self._bucket = Bucket(
            quick, bodies, timeout_s=timeout_s, requests=requests, memory_bytes=memory_bytes, clock=self._clock
        )
        self._scratch = Scratch(scratch, min_free_bytes, self._clock)
        self._tally = Tally(self._bucket, self._clock, max_bytes=max_bytes, count_every_s=count_every_s)
        self.parts = ObjectParts(self._bucket, self._scratch, self._tally)
        self.recordings = ObjectRecordings(self._bucket, self._scratch)
        self.results = ObjectResults(self._bucket, self._tally)
        self.survey = ObjectSurvey(self._bucket, self._scratch, self._tally, self._clock)
        self.direct: DirectAudio | None = None
        if public_endpoint:
            there = public_endpoint if url.startswith("s3://") else ""
            self.direct = DirectDownload(opened(url, there, given, attempt_s=timeout_s, timeout_s=timeout_s))

    async def start(self) -> None:
        await self._scratch.run(self._scratch.prepare)
        backoff = Backoff(first_s=0.5, longest_s=4.0)
        for attempt in range(_START_TRIES):
            try:
                await proved(self._bucket)
                break
            except errors.StorageUnavailable:
                if attempt == _START_TRIES - 1:
                    raise
            await self._clock.sleep(backoff.delay(attempt, self._randomness))
        await self._tally.fresh()

    async def close(self) -> None:
        await self._tally.close()
        await self._scratch.close()

    async def __aenter__(self) -> ObjectStore:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
