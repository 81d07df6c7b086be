"""The Python client: what the CLI uses and users' scripts import. docs/client.md shows it at work.

from cosygate.client import Client

with Client("http://127.0.0.1:8000", token) as client:
    task = client.upload("meeting.flac")
    client.wait(task.id)
    print(client.transcript(task.id).text)

with Client("http://127.0.0.1:8000", token) as client, client.live(16_000, on_event=print) as live:
    while pcm := sys.stdin.buffer.read(3200):
        live.send(pcm)
print(live.task_id, live.text)
"""

from cosygate.client.api import Client
from cosygate.client.errors import (
    BadAnswer,
    ClientError,
    Conflict,
    Denied,
    NotFound,
    Rejected,
    ServerBusy,
    SourceChanged,
    TaskFailed,
    Unreachable,
    WaitTimeout,
)
from cosygate.client.live_records import (
    Disconnected,
    Done,
    Final,
    Gap,
    LiveEvent,
    Partial,
    Reconnected,
    SpeechEnded,
    SpeechStarted,
)
from cosygate.client.records import Engine, Event, Failure, Model, Segment, Task, Transcript, Word
from cosygate.client.transport import Retries

__all__ = [
    "BadAnswer",
    "Client",
    "ClientError",
    "Conflict",
    "Denied",
    "Disconnected",
    "Done",
    "Engine",
    "Event",
    "Failure",
    "Final",
    "Gap",
    "LiveEvent",
    "Model",
    "NotFound",
    "Partial",
    "Reconnected",
    "Rejected",
    "Retries",
    "Segment",
    "ServerBusy",
    "SourceChanged",
    "SpeechEnded",
    "SpeechStarted",
    "Task",
    "TaskFailed",
    "Transcript",
    "Unreachable",
    "WaitTimeout",
    "Word",
]
