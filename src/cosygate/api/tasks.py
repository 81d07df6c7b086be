"""Tasks: what became of a recording.

GET    /v1/tasks                         own tasks, newest first
GET    /v1/task/{task_id}                one
GET    /v1/task/{task_id}/events         its story as it happens (server-sent events)
GET    /v1/task/{task_id}/audio          the recording, with Range
POST   /v1/task/{task_id}/audio-cookie   lets the browser's player fetch it for ten minutes
DELETE /v1/task/{task_id}                cancels; erases audio and transcript
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict

from cosygate import errors
from cosygate.api import ranges
from cosygate.api.article import EXAMPLE_TASK
from cosygate.api.callers import identify, require
from cosygate.api.described import problem_responses
from cosygate.flows.identifying import Identifying
from cosygate.flows.tasks import Tasks
from cosygate.model.job import Job, JobEvent, JobState
from cosygate.model.options import TranscribeOptions
from cosygate.model.principal import Principal, Scope
from cosygate.ports.tickets import Tickets

_TASK_ID = re.compile(r"[0-9a-f]{32}")
ONE = "/v1/task/{task_id}"
_COOKIE, _COOKIE_S = "cosygate_audio", 600
_KEEPALIVE_LOOKS = 15  # of up to a second each: such comments keep proxies from closing a quiet stream
_MAX_FOLLOWERS, _MAX_FOLLOWERS_EACH = 1000, 100  # event streams per process, and of one principal


class TaskResult(BaseModel):
    text: str
    file: str | None = None
    duration: float
    language: str | None = None
    flags: list[str] | None = None
    transcript_url: str


class TaskError(BaseModel):
    code: str
    detail: str


class TaskView(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "task_id": EXAMPLE_TASK,
                "session_id": "call-42",
                "state": "succeeded",
                "percent": 100,
                "file": "call.wav",
                "size": 160_044,
                "created_at": "2026-11-22T09:30:00Z",
                "started_at": "2026-11-22T09:30:00.020Z",
                "finished_at": "2026-11-22T09:30:00.310Z",
                "status_url": f"/v1/task/{EXAMPLE_TASK}",
                "result": {
                    "text": "Good morning, how can I help you today?",
                    "file": "call.wav",
                    "duration": 5.0,
                    "language": "en",
                    "transcript_url": f"/v1/task/{EXAMPLE_TASK}/transcript",
                },
            }
        }
    )
    task_id: str
    session_id: str
    state: JobState
    percent: int
    file: str | None = None
    size: int
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    status_url: str
    result: TaskResult | None = None
    error: TaskError | None = None


class TaskPage(BaseModel):
    tasks: list[TaskView]
    next_cursor: str | None = None


def view(job: Job) -> TaskView:
    url = f"/v1/task/{job.id}"
    file = TranscribeOptions.from_json(job.options).filename
    known = {k: v for k, v in (job.result or {}).items() if k in ("text", "duration", "language", "flags")}
    result = TaskResult(**known, file=file, transcript_url=f"{url}/transcript") if known else None
    return TaskView(
        task_id=job.id,
        session_id=job.session_id,
        state=job.state,
        percent=job.percent,
        file=file,
        size=job.size,
        created_at=when(job.created_at),
        started_at=when(job.started_at) if job.started_at else None,
        finished_at=when(job.finished_at) if job.finished_at else None,
        status_url=url,
        result=result,
        error=TaskError(code=job.error_code, detail=job.error_detail or "") if job.error_code else None,
    )


def when(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def router(tasks: Tasks, callers: Identifying, tickets: Tickets, draining: Callable[[], bool]) -> APIRouter:
    desk = _Desk(tasks, callers, tickets, draining)
    routes = APIRouter(tags=["Tasks"], responses=problem_responses(401, 403, 404, 429, 503))
    lean: dict[str, Any] = {"response_model_exclude_none": True}
    routes.get("/v1/tasks", responses=problem_responses(422), **lean)(desk.page)
    routes.get(ONE, **lean)(desk.task)
    routes.get(f"{ONE}/events", responses=_SSE, response_class=StreamingResponse)(desk.events)
    routes.get(f"{ONE}/audio", responses=_AUDIO | problem_responses(410, 416), response_class=Response)(desk.audio)
    routes.post(f"{ONE}/audio-cookie", status_code=204, response_class=Response)(desk.audio_cookie)
    routes.delete(ONE, responses=_DELETE, response_class=Response)(desk.delete)
    return routes


_SSE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events `progress`, `segment`, `restarted`, then one of `done`, `failed`, `cancelled`. "
        "`Last-Event-ID` continues after an event seen already.",
        "content": {"text/event-stream": {"example": 'id: 7\nevent: progress\ndata: {"percent":40}\n\n'}},
    }
}
_BYTES: dict[str, dict[str, Any]] = {kind: {} for kind in (*ranges.MEDIA_TYPES.values(), ranges.ANY_MEDIA_TYPE)}
_AUDIO: dict[int | str, dict[str, Any]] = {
    200: {"description": "The recording as it was sent.", "content": _BYTES},
    206: {"description": "A range of it.", "content": _BYTES},
    307: {"description": "Fetch it from `Location`, which holds for some minutes."},
}
_DELETE: dict[int | str, dict[str, Any]] = {
    200: {"description": "It was active: cancelled, its audio erased.", "model": TaskView},
    204: {"description": "It was finished: erased altogether."},
}


def checked(task_id: str) -> str:
    """Anything that cannot be a task's id is a task that does not exist."""
    if not _TASK_ID.fullmatch(task_id):
        raise errors.TaskNotFound()
    return task_id


class _Desk:
    def __init__(self, tasks: Tasks, callers: Identifying, tickets: Tickets, draining: Callable[[], bool]) -> None:
        self._tasks = tasks
        self._callers = callers
        self._tickets = tickets
        self._draining = draining
        self._followers: Counter[str] = Counter()  # owner → open event streams

    async def page(
        self,
        request: Request,
        cursor: str | None = None,
        state: JobState | None = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
    ) -> TaskPage:
        """Own tasks, newest first. `next_cursor` is null on the last page."""
        caller = await identify(request, self._callers, Scope.TASK_READ)
        if cursor is not None and not _TASK_ID.fullmatch(cursor):
            raise errors.Invalid("cursor is the next_cursor of an earlier page")
        jobs = await self._tasks.page(caller, state, cursor, limit + 1)
        more = len(jobs) > limit
        return TaskPage(tasks=[view(j) for j in jobs[:limit]], next_cursor=jobs[limit - 1].id if more else None)

    async def task(self, request: Request, task_id: str) -> TaskView:
        """A task's state, and its result or error once it has one."""
        caller = await identify(request, self._callers, Scope.TASK_READ)
        return view(await self._tasks.get(caller, checked(task_id)))

    async def delete(self, request: Request, task_id: str) -> Response:
        """Gives a task up. Its session_id is free again."""
        caller = await identify(request, self._callers, Scope.AUDIO_WRITE)
        job = await self._tasks.delete(caller, checked(task_id))
        if job is None:
            return Response(status_code=204)
        return Response(view(job).model_dump_json(exclude_none=True), media_type="application/json")

    async def events(self, request: Request, task_id: str) -> Response:
        """The task's story as server-sent events, from the start or after `Last-Event-ID`."""
        caller = await identify(request, self._callers, Scope.TASK_READ)
        last_seen = request.headers.get("last-event-id", "0")
        if not (last_seen.isascii() and last_seen.isdigit()) or len(last_seen) > 18:
            raise errors.Invalid("Last-Event-ID is the id of an event")
        await self._tasks.get(caller, checked(task_id))  # a 404 before the stream begins
        if self._followers.total() >= _MAX_FOLLOWERS:
            raise errors.Unavailable("too many event streams are open")
        if self._followers[caller.owner] >= _MAX_FOLLOWERS_EACH:
            raise errors.TooManyStreams(f"at most {_MAX_FOLLOWERS_EACH} event streams may be open at once")
        stream = self._story(caller, task_id, int(last_seen))
        # nginx would gather events until its buffer is full.
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)

    async def _story(self, caller: Principal, task_id: str, after: int) -> AsyncIterator[bytes]:
        self._followers[caller.owner] += 1
        quiet = 0
        try:
            yield b"retry: 1000\n\n"
            async for event in self._tasks.follow(caller, task_id, after):
                if not self._callers.holds(caller):
                    return
                if event is not None:
                    quiet = 0
                    yield _sse(event)
                elif self._draining():
                    return  # the client reconnects, with Last-Event-ID, to a server that stays
                else:
                    quiet += 1
                    if quiet % _KEEPALIVE_LOOKS == 0:
                        yield b": still here\n\n"
        except (errors.TaskNotFound, errors.Unavailable):
            return  # deleted meanwhile; or the client comes back, with Last-Event-ID, when the database has
        finally:
            self._followers[caller.owner] -= 1
            if not self._followers[caller.owner]:
                del self._followers[caller.owner]

    async def audio_cookie(self, request: Request, task_id: str) -> Response:
        """An <audio> element cannot send a token: this cookie, for this task's sound alone, lets it."""
        caller = await identify(request, self._callers, Scope.TASK_READ)
        await self._tasks.get(caller, checked(task_id))
        response = Response(status_code=204)
        response.set_cookie(
            _COOKIE,
            self._tickets.issue("audio", task_id, caller, _COOKIE_S),
            max_age=_COOKIE_S,
            path=f"/v1/task/{task_id}/audio",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )
        return response

    async def audio(self, request: Request, task_id: str) -> Response:
        """The recording as it was sent, whole or one `Range` of it; or where it is to be fetched from."""
        job, listing = await self._tasks.audio(await self._listener(request, checked(task_id)), task_id)
        if elsewhere := await self._tasks.audio_elsewhere(job, listing):
            return Response(status_code=307, headers={"Location": elsewhere, "Cache-Control": "private, no-store"})
        total = listing.total_bytes
        span = ranges.parse(request.headers.get("range"), total)
        start, length = span or (0, total)
        return StreamingResponse(
            self._tasks.read_audio(job, listing, start, length),
            status_code=206 if span else 200,
            headers=ranges.headers(span, total) | {"Cache-Control": "private, no-store"},
            media_type=ranges.media_type(job.container),
        )

    async def _listener(self, request: Request, task_id: str) -> Principal:
        if "authorization" not in request.headers and (ticket := request.cookies.get(_COOKIE)):
            caller = request.scope["caller"] = self._tickets.check(ticket, "audio", task_id).holder
            self._callers.check(caller)
            return require(caller, Scope.TASK_READ)
        return await identify(request, self._callers, Scope.TASK_READ)


def _sse(event: JobEvent) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.seq, event.kind.encode(), orjson.dumps(event.data))
