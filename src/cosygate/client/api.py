"""The client's face: one object, a method for each thing to do."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self, TypeVar, cast
from urllib.parse import quote

from cosygate.client.errors import BadAnswer, NotFound, TaskFailed
from cosygate.client.follow import follow
from cosygate.client.records import Engine, Event, Task, Transcript
from cosygate.client.source import Parts, opened
from cosygate.client.transport import Retries, Transport, json_object
from cosygate.client.uploads import OnProgress, send_recording

if TYPE_CHECKING:
    import httpx2

    from cosygate.client.live import Live
    from cosygate.client.live_records import LiveEvent

T = TypeVar("T")
CHUNK_BYTES = 1024 * 1024
FORMATS = ("json", "txt", "srt", "vtt", "vtt-karaoke", "ttml", "tsv")


class Client:
    """A gateway at `url`, spoken to with `token`. Thread-safe; close it, or use it in a `with`.

    `timeout_s` bounds one request's silence, not an upload or a task. `verify`: True, False, the path of a CA file
    (PEM), or an SSLContext. Every method raises ClientError; what can be tried again has been, as `retries` says.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout_s: float = 60.0,
        verify: bool | str | Path | ssl.SSLContext = True,
        retries: Retries | None = None,
    ) -> None:
        self._retries = retries or Retries()
        self._transport = Transport(url, token, timeout_s=timeout_s, verify=verify, retries=self._retries)
        self._address = (url, token, verify)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    def upload(
        self,
        source: str | os.PathLike[str] | BinaryIO,
        *,
        options: Mapping[str, str] | None = None,
        session_id: str | None = None,
        chunk_bytes: int = CHUNK_BYTES,
        connections: int = 3,
        on_progress: OnProgress | None = None,
    ) -> Task:
        """Sends a recording and returns its task, at once: `wait` waits for the transcript.

        Repeating the call continues where an interrupted one stopped, also from another process, and returns the task
        that exists when everything was sent before (a failed or cancelled task is done anew). `options` are those of
        docs/api.md, as text. `session_id` names the upload; by default the content's SHA-256 does, together with
        options and chunk size. `connections` (1-8) parts are under way at once. `on_progress(sent, total)` counts
        bytes that the server has; it is called by the sending threads, one at a time.
        Raises OSError when the file cannot be read, SourceChanged when it changes meanwhile.
        """
        if chunk_bytes < 1 or not 1 <= connections <= 8:
            raise ValueError("chunk_bytes is at least 1, connections 1-8")
        with opened(source) as file:
            return send_recording(
                self._transport,
                file,
                Parts.of(file, chunk_bytes),
                session_id=session_id,
                options=options or {},
                connections=connections,
                on_progress=on_progress,
                fetch=self.task,
            )

    def task(self, task_id: str) -> Task:
        return _parsed(Task.parse, json_object(self._transport.request("GET", _task(task_id))))

    def tasks(self, *, state: str | None = None) -> Iterator[Task]:
        """The caller's own, newest first, fetched page by page while iterating."""
        params = {"state": state} if state else {}
        while True:
            page = json_object(self._transport.request("GET", "/v1/tasks", params=params))
            for item in _list(page, "tasks"):
                yield _parsed(Task.parse, item)
            cursor = page.get("next_cursor")
            if not isinstance(cursor, str):
                return
            params["cursor"] = cursor

    def events(self, task_id: str, *, after: str | None = None) -> Iterator[Event]:
        """The task's story from its start (or after the event with that id) to its end, as it happens. A cut connection
        is taken up again where it broke."""
        return follow(self._transport, _task(task_id), after=after, timeout_s=None)

    def wait(
        self, task_id: str, *, timeout_s: float | None = None, on_event: Callable[[Event], None] | None = None
    ) -> Task:
        """Returns the task once it has succeeded. Raises TaskFailed when it failed or was cancelled, WaitTimeout after
        `timeout_s` seconds (the task goes on)."""
        for event in follow(self._transport, _task(task_id), after=None, timeout_s=timeout_s):
            if on_event:
                on_event(event)
        task = self.task(task_id)
        if task.state != "succeeded":
            raise TaskFailed(task)
        return task

    def transcript(self, task_id: str, *, version: int | None = None) -> Transcript:
        """As it was corrected last, or one `version` of it (1: the recogniser's own). Raises Conflict
        (`task_unfinished`) when there is none, NotFound (`version_not_found`)."""
        return _parsed(Transcript.parse, json_object(self._transcript(task_id, "json", version)))

    def transcript_text(self, task_id: str, fmt: str = "txt", *, version: int | None = None) -> str:
        """The same, written as one of FORMATS."""
        if fmt not in FORMATS:
            raise ValueError(f"fmt is one of {', '.join(FORMATS)}")
        return self._transcript(task_id, fmt, version).text

    def _transcript(self, task_id: str, fmt: str, version: int | None) -> httpx2.Response:
        params = {"format": fmt} | ({} if version is None else {"version": str(version)})
        return self._transport.request("GET", _task(task_id) + "/transcript", params=params)

    def delete(self, task_id: str) -> None:
        """Cancels the task if it runs, and erases its audio and transcript."""
        try:
            self._transport.request("DELETE", _task(task_id))
        except NotFound as error:
            if error.tries == 1:
                raise
            # The answer to an earlier try was lost: it is deleted.

    def live(
        self,
        sample_rate: int,
        *,
        format: str = "s16le",  # noqa: A002 - the protocol's name
        language: str | None = None,
        model: str | None = None,
        options: Mapping[str, str] | None = None,
        interim: bool = True,
        on_event: Callable[[LiveEvent], object] | None = None,
        buffer_s: float = 120.0,
        chunk_s: float = 0.1,
        wait_when_full: bool = False,
    ) -> Live:
        """A session for speech as it is spoken; use it in a `with`. It reconnects by itself, sends again what the
        server lacks, and tells each final once.

        `sample_rate`: 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100 or 48000. `format`: `s16le`, `mulaw`,
        `alaw` (one channel) or `webm-opus`. `interim`: partials are wanted. `on_event` is called by the session's
        thread, one event at a time: while it runs, nothing is sent, and what it raises ends the session. `buffer_s`
        seconds of audio are kept to be sent again (64 MiB at most), in frames of `chunk_s`. `wait_when_full`: the
        source can wait, such as a file; without a connection `send` then waits instead of dropping the oldest.
        Raises ValueError.
        """
        # Here, because these load a WebSocket library that nothing else needs.
        from cosygate.client.live import Live
        from cosygate.client.live_core import LiveCore, Stream
        from cosygate.client.live_session import Session
        from cosygate.client.live_wire import Door

        stream = Stream(sample_rate, format, language, model, options or {}, interim)
        core = LiveCore(stream, buffer_s=buffer_s, chunk_s=chunk_s, keep_all=wait_when_full)
        url, token, verify = self._address
        session = Session(Door.of(url, token, verify), core, self._retries, on_event)
        return Live(core, session, self._retries.monotonic)

    def models(self) -> list[Engine]:
        """The engines and what each can."""
        page = json_object(self._transport.request("GET", "/v1/models"))
        return [_parsed(Engine.parse, item) for item in _list(page, "engines")]


def _task(task_id: str) -> str:
    return f"/v1/task/{quote(task_id, safe='')}"


def _list(page: Mapping[str, object], name: str) -> list[dict[str, object]]:
    items = page.get(name)
    if not isinstance(items, list):
        raise BadAnswer(f"the answer has no list of {name}")
    return cast("list[dict[str, object]]", items)


def _parsed(parse: Callable[[Mapping[str, object]], T], data: Mapping[str, object]) -> T:
    try:
        return parse(data)
    except (KeyError, TypeError, ValueError) as error:
        raise BadAnswer(f"the answer is not as expected: {type(error).__name__} {error}") from error
