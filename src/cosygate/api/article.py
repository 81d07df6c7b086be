"""The article door: chunks as multipart forms, and its fast twin that takes them as raw bodies.

POST   /v1/audio                       chunk, session_id, seq, is_last, options   (as the article's clients send)
PUT    /v1/audio/{session_id}/{seq}    the chunk as raw body
GET    /v1/audio/{session_id}          what has arrived: resume from here
DELETE /v1/audio/{session_id}          give the upload up
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from cosygate import errors
from cosygate.api import described
from cosygate.api.bodies import BodyPace, check_declared_length, content_digest, declared_length, paced
from cosygate.api.callers import identify
from cosygate.api.limit_fields import limit_fields
from cosygate.api.multipart import boundary_of, read_form
from cosygate.flows.gate import Entry, Gate
from cosygate.flows.ingest import Digests, Ingest, Stored
from cosygate.model.options import Priority, TranscribeOptions, parse_options
from cosygate.model.principal import Principal, Scope
from cosygate.model.upload import MISSING_SHOWN, UploadState, check_seq, check_session_id
from cosygate.ports.blobs import Received
from cosygate.ports.callers import Callers

EXAMPLE_TASK = "01936d0f5a7c7e3fa1b2c3d4e5f60718"
_FORM_OVERHEAD = 64 * 1024  # bytes of a form beside its chunk


class ChunkOk(BaseModel):
    """The chunk is stored durably; the recording is not whole yet."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"status": "chunk_ok", "session_id": "call-42", "seq": 3, "missing": [1], "missing_count": 1}
        }
    )
    status: str = "chunk_ok"
    session_id: str
    seq: int
    missing: list[int] = Field(description=f"The first {MISSING_SHOWN} seqs below the highest known that are missing.")
    missing_count: int


class TaskAccepted(BaseModel):
    """The recording is whole and its task durable."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"task_id": EXAMPLE_TASK, "status_url": f"/v1/task/{EXAMPLE_TASK}"}}
    )
    task_id: str
    status_url: str


class UploadView(BaseModel):
    """What is there of an upload, and what is not."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"received": [0, 2], "missing": [1], "missing_count": 1, "bytes": 400_000, "state": "open"}
        }
    )
    received: list[int]
    missing: list[int]
    missing_count: int
    bytes: int
    state: UploadState
    task_id: str | None = None


def router(door: ArticleDoor) -> APIRouter:
    routes = APIRouter(tags=["Article door"])
    described.chunk_routes(routes, door.post_chunk, door.put_chunk, ChunkOk, TaskAccepted)
    one, known = "/v1/audio/{session_id}", described.problem_responses(401, 403, 404, 409, 422, 503)
    routes.get(one, responses=known, response_model_exclude_none=True)(door.upload)
    routes.delete(one, responses=known, status_code=204, response_class=Response)(door.abort)
    return routes


def _parse_last(fields: Mapping[str, str]) -> TranscribeOptions | None:
    """The options when `is_last` is 1; None for any other chunk, which may carry none: they would be ignored."""
    options = dict(fields)
    is_last = options.pop("is_last", "0")
    if is_last not in ("0", "1"):
        raise errors.OptionInvalid("is_last is 0 or 1", option="is_last")
    parsed = parse_options(options)
    if is_last == "1":
        return parsed
    if options:
        name = sorted(options)[0]
        raise errors.OptionInvalid(f"options go with the chunk that has is_last=1, not {name}", option=name)
    return None


class ArticleDoor:
    def __init__(self, ingest: Ingest, gate: Gate, callers: Callers, pace: BodyPace) -> None:
        self._ingest = ingest
        self._gate = gate
        self._callers = callers
        self._pace = pace

    async def post_chunk(self, request: Request) -> Response:
        check_declared_length(request, self._ingest.limits.chunk_bytes + _FORM_OVERHEAD)
        caller = await identify(request, self._callers, Scope.AUDIO_WRITE)
        boundary = boundary_of(request.headers.get("content-type", ""))

        async def store(chunk: AsyncIterator[bytes]) -> Received:
            return await self._ingest.receive(chunk, Digests())

        entry = await self._gate.chunk(caller, None, size=declared_length(request))
        try:
            fields, received = await read_form(paced(request, self._pace), boundary, "chunk", store)
            try:
                session_id, seq_text = fields.pop("session_id", ""), fields.pop("seq", "")
                return await self._put(request, caller, session_id, seq_text, fields, received, entry)
            finally:
                await received.close()
        finally:
            entry.close()

    async def put_chunk(self, request: Request) -> Response:
        check_declared_length(request, self._ingest.limits.chunk_bytes)
        caller = await identify(request, self._callers, Scope.AUDIO_WRITE)
        session_id, seq_text = request.path_params["session_id"], request.path_params["seq"]
        # Everything that can be refused is refused before the body is read.
        check_session_id(session_id)
        check_seq(seq_text, self._ingest.limits)
        fields = _query(request)
        last = _parse_last(fields)
        digests = content_digest(request)
        low = last is not None and last.priority is Priority.LOW
        entry = await self._gate.chunk(caller, session_id, size=declared_length(request), low=low)
        try:
            received = await self._ingest.receive(paced(request, self._pace), digests)
            try:
                return await self._put(request, caller, session_id, seq_text, fields, received, entry)
            finally:
                await received.close()
        finally:
            entry.close()

    async def _put(self, request: Request, caller: Principal, session_id: str, seq_text: str,
                   fields: Mapping[str, str], received: Received, entry: Entry) -> Response:  # fmt: skip
        seq = check_seq(seq_text, self._ingest.limits)
        last = _parse_last(fields)
        entry.low = last is not None and last.priority is Priority.LOW
        stored = await self._ingest.put(
            caller, check_session_id(session_id), seq, received, request.scope["trace_id"], last, entry
        )
        return _answer(stored, session_id, seq, limit_fields(entry.standing))

    async def upload(self, request: Request, session_id: str) -> UploadView:
        """What has arrived of an upload: resume from here."""
        caller = await identify(request, self._callers, Scope.AUDIO_WRITE)
        status = await self._ingest.status(caller, check_session_id(session_id))
        missing, count = status.listing.missing()
        return UploadView(
            received=sorted(status.listing.parts),
            missing=missing,
            missing_count=count,
            bytes=status.listing.total_bytes,
            state=status.upload.state,
            task_id=status.upload.job_id,
        )

    async def abort(self, request: Request, session_id: str) -> Response:
        """Gives an upload up and erases its chunks. A complete one is a task: delete that."""
        caller = await identify(request, self._callers, Scope.AUDIO_WRITE)
        await self._ingest.abort(caller, check_session_id(session_id))
        return Response(status_code=204)


def _query(request: Request) -> dict[str, str]:
    items = request.query_params.multi_items()
    fields = dict(items)
    if len(fields) != len(items):
        raise errors.Invalid("a query parameter is repeated")
    return fields


def _answer(stored: Stored, session_id: str, seq: int, fields: dict[str, str]) -> Response:
    if stored.job_id is not None:
        url = f"/v1/task/{stored.job_id}"
        body: dict[str, Any] = {"task_id": stored.job_id, "status_url": url}
        return Response(orjson.dumps(body), 202, fields | {"Location": url}, media_type="application/json")
    body = {
        "status": "chunk_ok",
        "session_id": session_id,
        "seq": seq,
        "missing": stored.missing,
        "missing_count": stored.missing_count,
    }
    return Response(orjson.dumps(body), headers=fields, media_type="application/json")
