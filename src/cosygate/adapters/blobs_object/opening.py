"""From an address to a store: which kind it is, how long it may take, and whether it can what we need of it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from obstore.store import AzureStore, GCSStore, S3Store

from cosygate import errors
from cosygate.adapters.blobs_object.bucket import Bucket, RemoteStore

_CONNECT_S = 5.0
_RETRIES = 2
_LONGEST_S = 3600.0  # an attempt at a large body; its caller has a bound of its own


def opened(
    url: str, endpoint: str, credentials: Mapping[str, str], *, attempt_s: float, timeout_s: float
) -> RemoteStore:
    """The store at `url`, as settings write it. What `credentials` lack comes from the environment, as the provider's
    own tools read it. Raises ValueError, which tells no secret."""
    parts = urlsplit(url)
    if endpoint and parts.scheme != "s3":
        raise ValueError("store_endpoint is for s3:// alone")
    options: dict[str, Any] = {
        "prefix": parts.path.strip("/") or None,
        "client_options": {
            "timeout": timedelta(seconds=attempt_s),
            "connect_timeout": timedelta(seconds=min(_CONNECT_S, timeout_s)),
            "allow_http": endpoint.startswith("http://"),
        },
        "retry_config": {
            "max_retries": _RETRIES,
            "retry_timeout": timedelta(seconds=timeout_s),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=1),
                "base": 2,
            },
        },
        **credentials,
    }
    if endpoint:
        options["endpoint"] = endpoint
    try:
        match parts.scheme:
            case "s3":
                return S3Store(parts.netloc, **options)
            case "gs":
                return GCSStore(parts.netloc, **options)
            case "az":
                return AzureStore(parts.netloc, **options)
    except Exception as error:  # obstore raises several kinds, none of which need be told apart
        raise ValueError(f"store_url cannot be used ({type(error).__name__})") from None
    raise ValueError("store_url is s3://…, gs://… or az://…")


def both(url: str, endpoint: str, credentials: Mapping[str, str], timeout_s: float) -> tuple[RemoteStore, RemoteStore]:
    """For short requests, and for bodies."""
    return (
        opened(url, endpoint, credentials, attempt_s=timeout_s, timeout_s=timeout_s),
        opened(url, endpoint, credentials, attempt_s=_LONGEST_S, timeout_s=timeout_s),
    )


async def proved(bucket: Bucket) -> None:
    """Writes, lists and erases an object. Raises ValueError when the store refuses or cannot do what we need,
    StorageUnavailable when it does not answer, StorageFull."""
    key = f"probe/{secrets.token_hex(8)}"
    try:
        await bucket.create(key, b"1")
        again = await bucket.create(key, b"2")
        listed = [one.key for one in await bucket.found("probe")]
        await bucket.delete([key])
    except errors.StorageUnavailable as error:
        if bucket.refused:
            raise ValueError(f"the object store cannot be used: {error.detail}") from None
        raise
    if again:
        raise ValueError("the object store overwrites what is there: it ignores If-None-Match, and loses recordings")
    if key not in listed:
        raise ValueError("the object store does not list what was just written: recordings would lack parts")
