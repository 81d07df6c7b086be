"""`cosygate transcribe`: recordings in order, each sent, waited for and written; one that fails stops no other."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cosygate.cli.progress import Bars
from cosygate.client import BadAnswer, Client, ClientError, Denied, Unreachable

if TYPE_CHECKING:
    from cosygate.settings import Settings

TOKEN_TTL_S = 7 * 86400.0  # of the embedded server's token: longer than anything it transcribes


class UsageError(Exception):
    """The command cannot mean anything; nothing was done."""


@dataclass(frozen=True, slots=True)
class Wanted:
    files: Sequence[Path]
    server: str | None  # None: embedded
    token: str | None
    format: str  # a value of cli.Format
    out: Path | None  # folder; None: stdout
    options: Mapping[str, str]  # for the server: language, model, channels


def run(wanted: Wanted, settings: Callable[[], Settings]) -> int:
    """0: every recording is transcribed, 1: some are not. Raises UsageError, ServerFailed, KeyboardInterrupt."""
    targets = _targets(wanted)
    failed = 0
    with gateway(wanted.server, wanted.token, settings) as client, Bars() as bars:
        for path, target in targets:
            bars.next_file(path.name)
            try:
                _one(client, bars, path, target, wanted)
            except BrokenPipeError:
                raise
            except (ClientError, OSError) as error:
                failed += 1
                _complain(path, error)
                if isinstance(error, Denied | Unreachable | BadAnswer):
                    return 1  # the others would fare no better
    return 1 if failed else 0


def _targets(wanted: Wanted) -> list[tuple[Path, Path | None]]:
    """Each recording with the file to write, None for stdout."""
    check_token(wanted.server, wanted.token)
    if wanted.out is None:
        if len(wanted.files) > 1 and wanted.format not in ("txt", "json"):
            raise UsageError(f"several recordings as {wanted.format} need --out: one stream cannot hold them")
        return [(path, None) for path in wanted.files]
    try:
        wanted.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out: {error.strerror}: {wanted.out}") from error
    stems = [path.stem for path in wanted.files]
    suffix = wanted.format.partition("-")[0]  # players know karaoke by .vtt
    targets = {
        path: wanted.out / f"{path.stem if stems.count(path.stem) == 1 else path.name}.{suffix}"
        for path in wanted.files
    }
    if len(set(targets.values())) < len(wanted.files):
        raise UsageError("two recordings of the same name would write the same file in --out")
    return list(targets.items())


def check_token(server: str | None, token: str | None) -> None:
    if server and not token:
        raise UsageError("--server needs a --token (or COSYGATE_TOKEN); `cosygate token` on the server prints one")


@contextmanager
def gateway(server: str | None, token: str | None, settings: Callable[[], Settings]) -> Iterator[Client]:
    """A client of the server at that address, or of an embedded one. Raises UsageError, ServerFailed."""
    if server:
        try:
            client = Client(server, token or "")
        except ValueError as error:
            raise UsageError(f"--server: {error}") from error
        with client:
            yield client
        return
    from cosygate.cli.embedded import embedded, private_folder
    from cosygate.cli.tokens import issue

    own = settings()
    with private_folder(own.data_dir) as folder, embedded(folder) as url:
        try:
            own_token = issue(own.model_copy(update={"data_dir": folder}), "cli", ttl_s=TOKEN_TTL_S)
        except ValueError as error:
            raise UsageError(str(error)) from error
        with Client(url, own_token) as client:
            yield client


def _one(client: Client, bars: Bars, path: Path, target: Path | None, wanted: Wanted) -> None:
    task = client.upload(path, options=wanted.options, on_progress=bars.sent)
    done = client.wait(task.id, on_event=bars.event)
    text = client.transcript_text(task.id, wanted.format)
    if text and not text.endswith("\n"):
        text += "\n"
    if target is None:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        write_whole(target, text)
    if "language_mismatch" in done.flags:
        told = "it sounds like no language that the model knows; --language recognises it as that one all the same"
        sys.stderr.write(f"cosygate: {path}: {told}\n")
    if not wanted.server:
        client.delete(task.id)  # the transcript is the caller's now; nothing of it stays in the embedded store


def write_whole(target: Path, text: str) -> None:
    """Whole or not at all."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _complain(path: Path, error: ClientError | OSError) -> None:
    reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
    sys.stderr.write(f"cosygate: {path}: {reason}\n")
