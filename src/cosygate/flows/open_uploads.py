"""Which upload a session_id means, as this process remembers it, and how one ends that nobody will finish.

Ending takes three steps, because what this process remembers is remembered by others, too:
1. The row says that the upload is given up: it cannot complete any more, but its session_id still means it.
2. Its place is erased: whoever remembers it finds no place there, and looks at the row again.
3. The row is closed: the session_id is free.
So nothing is acknowledged in an upload once its session_id can mean another. Whoever meets the row after a crash or an
outage between 1 and 3 (a repeated DELETE, the next chunk, the next round of housekeeping) does the rest.
"""

from __future__ import annotations

from collections import OrderedDict

from cosygate.kit.clock import Clock
from cosygate.model.upload import Upload, UploadState
from cosygate.ports.blobs import PartStore
from cosygate.ports.records import UploadRecords

_REMEMBERED = 8192  # uploads per process
# A chunk that was on its way when its upload ended may revive its place, for a moment or, when its process ends then,
# for longer: whoever remembers the upload would go on storing there. Seconds, not more; and not a look a chunk.
_REMEMBERED_S = 5.0


class OpenUploads:
    def __init__(self, uploads: UploadRecords, clock: Clock) -> None:
        self._uploads = uploads
        self._clock = clock
        self._known: OrderedDict[tuple[str, str], tuple[Upload, float]] = OrderedDict()

    def __contains__(self, key: tuple[str, str]) -> bool:
        return key in self._known

    async def find(self, owner: str, session_id: str) -> Upload | None:
        """As the rows have it now; none that is given up. Raises DatabaseBusy."""
        upload = await self._uploads.find(owner, session_id)
        return None if upload is None or upload.given_up else upload

    async def recall(self, owner: str, session_id: str) -> Upload | None:
        """An open upload of which this process has stored a chunk; the row is looked at every few seconds. Raises
        DatabaseBusy."""
        upload, since = self._known.get((owner, session_id), (None, 0.0))
        if upload is None or self._clock.monotonic() - since < _REMEMBERED_S:
            return upload
        asked = self._clock.monotonic()
        bound = await self.find(owner, session_id)
        if bound is None or bound.id != upload.id or bound.state is not UploadState.OPEN:
            self.forget(upload)
            return None
        self.remember(upload, asked)
        return upload

    def remember(self, upload: Upload, asked: float) -> None:
        """`asked`: monotonic seconds, before the row was looked at."""
        key = (upload.owner, upload.session_id)
        self._known[key] = (upload, asked)
        self._known.move_to_end(key)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    def forget(self, upload: Upload) -> None:
        """Unless the session_id means another by now."""
        key = (upload.owner, upload.session_id)
        if key in self._known and self._known[key][0].id == upload.id:
            del self._known[key]


async def end_upload(uploads: UploadRecords, parts: PartStore, upload_id: str, state: UploadState) -> bool:
    """False, and nothing is done, when it is not open: it is a task, or has ended. Raises DatabaseBusy, StorageFull,
    StorageUnavailable; repeating it is fine."""
    if not await uploads.give_up(upload_id):
        return False
    await parts.erase(upload_id)
    await uploads.close(upload_id, state)
    return True
