"""Errors of where recordings and transcripts lie."""

from __future__ import annotations

from cosygate.errors.families import Unavailable


class StorageFull(Unavailable):
    code, title, status = "storage_full", "There is no room for more recordings", 507


class StorageUnavailable(Unavailable):
    code, title = "storage_unavailable", "The store of recordings does not answer"
