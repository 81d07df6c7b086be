"""The Python client: what the CLI uses and users' scripts import. docs/client.md shows it at work.

from cosygate.client import Client

with Client("http://127.0.0.1:8000", token) as client:
    task = client.upload("meeting.flac")
    client.wait(task.id)
    print(client.transcript(task.id).text)
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
from cosygate.client.records import Engine, Event, Failure, Model, Segment, Task, Transcript, Word
from cosygate.client.transport import Retries

__all__ = [
    "BadAnswer",
    "Client",
    "ClientError",
    "Conflict",
    "Denied",
    "Engine",
    "Event",
    "Failure",
    "Model",
    "NotFound",
    "Rejected",
    "Retries",
    "Segment",
    "ServerBusy",
    "SourceChanged",
    "Task",
    "TaskFailed",
    "Transcript",
    "Unreachable",
    "WaitTimeout",
    "Word",
]
