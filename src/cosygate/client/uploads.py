"""Sending a recording: in parts, over a few connections, from where the last attempt got to.

GET /v1/audio/{session_id}          which parts are there already
PUT /v1/audio/{session_id}/{seq}    each missing one, with its digest, a few at a time
PUT …/{last}?is_last=1&…            at the end, always: its answer carries the task
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from urllib.parse import quote

from cosygate.client.errors import BadAnswer, ClientError, Conflict, NotFound, Rejected, ServerBusy
from cosygate.client.records import Task
from cosygate.client.source import Parts, Source
from cosygate.client.transport import Transport, json_object

OnProgress = Callable[[int, int], None]  # bytes that the server has, bytes in all
MAX_TRIED = 16  # tasks of the same recording; when all failed, the last is returned
LEAVE_S = 2.0  # how long an interrupted upload waits for requests under way


class Upload:
    """One recording on its way into one session."""

    def __init__(
        self, transport: Transport, source: Source, parts: Parts, session_id: str, on_progress: OnProgress | None
    ) -> None:
        self._transport = transport
        self._source = source
        self._parts = parts
        self._path = f"/v1/audio/{quote(session_id, safe='')}"
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._sent = 0

    def received(self) -> tuple[set[int], str | None]:
        """The seqs that the server has, and the task id once the upload is complete."""
        try:
            answer = json_object(self._transport.request("GET", self._path))
        except NotFound:
            return set(), None
        task_id, seqs = answer.get("task_id"), answer.get("received")
        if not isinstance(seqs, list):
            raise BadAnswer("the upload's state has no list of received parts")
        return set(seqs), task_id if isinstance(task_id, str) else None

    def send(self, have: set[int], options: Mapping[str, str], connections: int) -> str:
        """Sends what is not in `have` and completes the upload. Returns the task id."""
        last = self._parts.count - 1
        if beyond := [seq for seq in have if seq > last]:
            raise Conflict(f"the session holds part {max(beyond)} already, of another recording or chunk size")
        self._advance(sum(self._parts.length(seq) for seq in have if seq < last))
        self._send_parallel([seq for seq in range(last) if seq not in have], connections)
        # The last one even if it is there: that it is the last may not have been stored, and its answer is needed.
        answer = self._put(last, {"is_last": "1", **options}, self._transport.closed)
        task_id = answer.get("task_id")
        if not isinstance(task_id, str):
            raise ServerBusy("the server lost parts that it had acknowledged", code="parts_missing", retryable=True)
        return task_id

    def abort(self) -> None:
        """Gives up what will never be taken, so that it does not count as open. An upload that cannot be aborted now
        expires by itself."""
        with contextlib.suppress(ClientError):
            self._transport.request("DELETE", self._path)

    def _put(self, seq: int, params: Mapping[str, str], stop: threading.Event) -> dict[str, object]:
        data = self._parts.read(self._source, seq)
        headers = {"Content-Type": "application/octet-stream", "Content-Digest": self._parts.content_digest(seq)}
        answer = self._transport.request(
            "PUT", f"{self._path}/{seq}", params=params, content=data, headers=headers, stop=stop
        )
        self._advance(len(data))
        return json_object(answer)

    def _advance(self, sent: int) -> None:
        with self._lock:
            self._sent += sent
            if self._on_progress:
                self._on_progress(self._sent, self._parts.size)

    def _send_parallel(self, seqs: list[int], connections: int) -> None:
        """A few threads take seqs one by one; the first error stops all. An interrupt leaves at once: requests under
        way get LEAVE_S, then their threads (daemons) are left behind."""
        stop = threading.Event()
        todo = iter(seqs)
        taking = threading.Lock()
        failures: list[BaseException] = []

        def sender() -> None:
            while not stop.is_set():
                with taking:
                    seq = next(todo, None)
                if seq is None:
                    return
                try:
                    self._put(seq, {}, stop)
                except BaseException as error:
                    failures.append(error)
                    stop.set()

        threads = [
            threading.Thread(target=sender, daemon=True, name=f"cosygate-send-{n}")
            for n in range(min(connections, len(seqs)))
        ]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except BaseException:
            stop.set()
            for thread in threads:
                thread.join(LEAVE_S / len(threads))
            raise
        if failures:
            raise failures[0]


def send_recording(
    transport: Transport,
    source: Source,
    parts: Parts,
    *,
    session_id: str | None,
    options: Mapping[str, str],
    connections: int,
    on_progress: OnProgress | None,
    fetch: Callable[[str], Task],
) -> Task:
    """Without `session_id`, the recording's own identity names it: an upload that was interrupted continues, one that
    completed gives its task, and one whose task failed or was cancelled is done anew under the next name."""
    named = {"filename": source.name, **options} if source.name else options
    own = session_id or parts.identity(options)
    names = [own] if session_id else [own, *(f"{own}.{n}" for n in range(2, MAX_TRIED + 1))]
    for name in names:
        upload = Upload(transport, source, parts, name, on_progress)
        have, task_id = upload.received()
        if task_id is None:
            try:
                return fetch(upload.send(have, named, connections))
            except Rejected:
                if session_id is None:
                    upload.abort()
                raise
        task = fetch(task_id)
        if task.state not in ("failed", "cancelled"):
            break
    return task
