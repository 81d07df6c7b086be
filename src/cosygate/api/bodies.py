"""Request bodies: bounded, cut off when they stall, with their Content-Digest read."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from cosygate import errors
from cosygate.flows.ingest import Digests

_MEMBER = re.compile(r"\s*([a-z0-9-]+)=:([A-Za-z0-9+/=]*):\s*")  # a Byte Sequence (RFC 8941 §3.3.5)
_SMALL = 4096  # bytes of a body that is read whole
M = TypeVar("M", bound=BaseModel)
_DIGEST_BYTES = {"sha-256": 32, "sha-512": 64}


@dataclass(frozen=True, slots=True)
class BodyPace:
    """How long a body may take, in seconds."""

    idle_s: float
    total_s: float


async def paced(request: Request, pace: BodyPace) -> AsyncIterator[bytes]:
    """The body as it comes. Raises BodyStalled when nothing came for `idle_s`, or it took more than `total_s`;
    ClientDisconnect when the client left."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + pace.total_s
    while True:
        try:
            async with asyncio.timeout_at(min(loop.time() + pace.idle_s, ends)):
                message = await request.receive()
        except TimeoutError:
            raise errors.BodyStalled() from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        if body := message.get("body", b""):
            yield body
        if not message.get("more_body", False):
            return


async def small_json(request: Request, pace: BodyPace, kind: type[M], limit: int = _SMALL) -> M:
    """A body of at most `limit` bytes as `kind`. Raises TooLarge, BodyStalled, BodyMalformed, Invalid."""
    body = bytearray()
    async for piece in paced(request, pace):
        body += piece
        if len(body) > limit:
            raise errors.TooLarge(f"this body is at most {limit} bytes", limit=limit)
    try:
        if len(body) > _SMALL:
            return await asyncio.to_thread(kind.model_validate_json, body)
        return kind.model_validate_json(body)
    except ValidationError as error:
        wrong = error.errors(include_input=False, include_url=False)
        if any(item["type"] == "json_invalid" for item in wrong):
            raise errors.BodyMalformed("the body is not JSON") from None
        where = ", ".join(".".join(map(str, item["loc"])) for item in wrong[:5])
        raise errors.Invalid(f"not valid: {where or 'the body'}") from None


def declared_length(request: Request) -> int | None:
    """Content-Length in bytes; None for a body that comes in pieces."""
    declared = request.headers.get("content-length", "")
    return int(declared) if declared.isdigit() else None


def check_declared_length(request: Request, limit: int) -> None:
    """Refuses by Content-Length, before reading. Raises ChunkTooLarge."""
    if (declared_length(request) or 0) > limit:
        raise errors.ChunkTooLarge(f"a chunk is at most {limit} bytes", limit=limit)


def content_digest(request: Request) -> Digests:
    """Content-Digest (RFC 9530): sha-256 and sha-512 are checked, other algorithms left alone as the RFC allows, but
    one that we cannot use at all is refused rather than believed. Raises DigestInvalid."""
    header = request.headers.get("content-digest")
    if header is None:
        return Digests()
    found: dict[str, bytes] = {}
    for member in header.split(","):
        match = _MEMBER.fullmatch(member)
        if not match:
            raise errors.DigestInvalid("Content-Digest is a list of algorithm=:base64:")
        if match[1] in _DIGEST_BYTES:
            found[match[1]] = _digest_bytes(match[1], match[2])
    if not found:
        raise errors.DigestInvalid("Content-Digest names neither sha-256 nor sha-512")
    return Digests(found.get("sha-256"), found.get("sha-512"))


def _digest_bytes(algorithm: str, text: str) -> bytes:
    try:
        value = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise errors.DigestInvalid("Content-Digest is not base64") from None
    if len(value) != _DIGEST_BYTES[algorithm]:
        raise errors.DigestInvalid(f"{algorithm} has {_DIGEST_BYTES[algorithm]} bytes")
    return value
