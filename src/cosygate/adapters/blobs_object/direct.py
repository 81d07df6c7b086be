"""Addresses under which a client may fetch a recording from the store itself."""

from __future__ import annotations

from datetime import timedelta

import obstore
from obstore.exceptions import BaseError

from cosygate.adapters.blobs_object.bucket import RemoteStore, translated
from cosygate.adapters.blobs_object.ledger import part_key
from cosygate.model.upload import Listing

# Chromium asks the store for every further range, at the same address, and what it reads ahead lasts for a minute and
# more: when that has expired, the page asks us for another one, and the sound halts. A download that has begun goes on.
EXPIRES_S = 300.0


class DirectDownload:
    """A DirectAudio. The address is a secret while it holds, and is told to its client alone."""

    def __init__(self, public: RemoteStore) -> None:
        self._public = public

    async def url(self, upload_id: str, listing: Listing) -> str | None:
        if len(listing.parts) != 1 or listing.total_bytes == 0:
            return None
        (seq,) = listing.parts
        try:
            return await obstore.sign_async(self._public, "GET", part_key(upload_id, seq), timedelta(seconds=EXPIRES_S))
        except BaseError as error:  # credentials that must be fetched first, and cannot be
            raise translated(error) from None
