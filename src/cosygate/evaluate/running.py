"""Recordings through a gateway, one after the other, each by every model: what came back, and how long it took."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from cosygate.client import BadAnswer, Client, ClientError, Denied, Rejected, Transcript, Unreachable
from cosygate.evaluate.references import Recording

FROM_REFERENCE = "from-reference"
AUTO = "auto"


class Refused(Exception):
    """The server has no such model, or the model cannot tell what was asked for."""


@dataclass(frozen=True, slots=True)
class Asked:
    models: tuple[str | None, ...] = (None,)  # None: the server's default
    words: bool = False
    diarize: bool = False
    num_speakers: str = AUTO  # AUTO, FROM_REFERENCE, or a number

    def options(self, model: str | None, recording: Recording) -> dict[str, str]:
        """What the server is asked for."""
        options = {"model": model} if model else {}
        if self.words:
            options["words"] = "true"
        if self.diarize:
            options["diarize"] = "true"
            number = recording.speakers if self.num_speakers == FROM_REFERENCE else self.num_speakers
            if number not in (None, AUTO):
                options["num_speakers"] = str(number)
        return options


@dataclass(frozen=True, slots=True)
class Outcome:
    recording: Recording
    model: str | None  # as asked for
    transcript: Transcript | None
    wall_s: float  # from the first byte sent to the transcript in hand
    failure: str | None = None  # why there is no transcript


def outcomes(
    client: Client, recordings: Sequence[Recording], asked: Asked, run: str, monotonic: Callable[[], float]
) -> Iterator[Outcome]:
    """One by one, so that each has the server for itself, and erased there afterwards. `run` names the uploads, as
    nothing else does: no transcript that the caller had before is taken for a new one, or erased. Raises Refused, and
    ClientError for what would fail for all others too; what fails for one recording is its outcome."""
    for n, recording in enumerate(recordings):
        for m, model in enumerate(asked.models):
            session = f"evaluate-{run}-{n}-{m}"
            yield _outcome(client, recording, model, asked.options(model, recording), session, monotonic)


def _outcome(
    client: Client,
    recording: Recording,
    model: str | None,
    options: dict[str, str],
    session: str,
    monotonic: Callable[[], float],
) -> Outcome:
    began = monotonic()
    task_id = None
    try:
        task_id = client.upload(recording.path, options=options, session_id=session).id
        client.wait(task_id)
        transcript = client.transcript(task_id)
        return Outcome(recording, model, transcript, monotonic() - began)
    except (Denied, Unreachable, BadAnswer):
        raise
    except (ClientError, OSError) as error:
        if isinstance(error, Rejected) and error.code.startswith("option_"):
            raise Refused(str(error)) from error
        return Outcome(recording, model, None, monotonic() - began, str(error))
    finally:
        if task_id is not None:
            with suppress(ClientError):  # it expires there by itself
                client.delete(task_id)
