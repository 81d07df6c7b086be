"""`cosygate evaluate FOLDER`: a folder of recordings and references in, error rates of each model out."""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cosygate.cli.options import DataDir, fail, settings_from

if TYPE_CHECKING:
    from cosygate.client import Client
    from cosygate.evaluate.references import Recording
    from cosygate.evaluate.running import Asked
    from cosygate.evaluate.scoring import Score


def evaluate(
    folder: Annotated[
        Path, typer.Argument(help="Recordings, and manifest.tsv or NAME.txt, .rttm, .words.tsv beside them.")
    ],
    server: Annotated[
        str | None, typer.Option(envvar="COSYGATE_SERVER", help="A gateway's address; without it, one is started.")
    ] = None,
    token: Annotated[str | None, typer.Option(envvar="COSYGATE_TOKEN", help="Bearer token for --server.")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(envvar="COSYGATE_MODEL", help="A name from GET /v1/models; several are compared."),
    ] = None,
    words: Annotated[bool, typer.Option("--words", envvar="COSYGATE_WORDS", help="Ask for word times.")] = False,
    diarize: Annotated[bool, typer.Option("--diarize", envvar="COSYGATE_DIARIZE", help="Ask for speakers.")] = False,
    num_speakers: Annotated[
        str, typer.Option(envvar="COSYGATE_NUM_SPEAKERS", help="With --diarize: auto, from-reference, or a number.")
    ] = "auto",
    json_file: Annotated[
        Path | None, typer.Option("--json", envvar="COSYGATE_JSON", help="File to write everything into.")
    ] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", envvar="COSYGATE_HTML", help="File to write a report into.")
    ] = None,
    only: Annotated[str, typer.Option(envvar="COSYGATE_ONLY", help="Glob of the recordings that are taken.")] = "*",
    limit: Annotated[
        int | None, typer.Option(min=1, envvar="COSYGATE_LIMIT", help="Only the first so many.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, envvar="COSYGATE_SEED", help="Of the confidence intervals.")] = 0,
    data_dir: DataDir = None,
) -> None:
    """Compare models on recordings whose words, speakers or times are known."""
    from cosygate.cli.embedded import ServerFailed
    from cosygate.cli.transcribe import UsageError, check_token, gateway
    from cosygate.client import ClientError
    from cosygate.evaluate.references import BadFolder, read
    from cosygate.evaluate.running import Asked, Refused

    asked = Asked(tuple(dict.fromkeys(model or [])) or (None,), words, diarize, num_speakers)
    _check(asked, {"--json": json_file, "--html": html_file})
    try:
        check_token(server, token)
        recordings = read(folder, only, limit)
        with gateway(server, token, lambda: settings_from(data_dir=data_dir)) as client:
            scores = _scores(client, recordings, asked)
        asked_for = {**asdict(asked), "models": ", ".join(name or "default" for name in asked.models)}
        _tell(scores, seed, {"folder": str(folder), **asked_for, "seed": seed}, json_file, html_file)
    except (UsageError, BadFolder, Refused) as error:
        fail(str(error), 2)
    except (ServerFailed, ClientError, OSError) as error:
        fail(str(error), 1)
    except KeyboardInterrupt:
        fail("interrupted", 130)
    raise typer.Exit(1 if any(score.failure for score in scores) else 0)


def _check(asked: Asked, files: Mapping[str, Path | None]) -> None:
    from cosygate.evaluate.running import AUTO, FROM_REFERENCE

    if asked.num_speakers != AUTO and not asked.diarize:
        fail("--num-speakers needs --diarize", 2)
    if asked.num_speakers not in (AUTO, FROM_REFERENCE) and not asked.num_speakers.isdecimal():
        fail("--num-speakers is auto, from-reference or a number", 2)
    for option, path in files.items():
        if path is not None and not path.absolute().parent.is_dir():
            fail(f"{option}: there is no folder {path.parent}", 2)


def _scores(client: Client, recordings: Sequence[Recording], asked: Asked) -> list[Score]:
    from rich.console import Console
    from rich.progress import Progress

    from cosygate.evaluate.running import outcomes
    from cosygate.evaluate.scoring import score

    console = Console(stderr=True)
    found = outcomes(client, recordings, asked, secrets.token_hex(8), time.monotonic)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        shown = progress.track(found, len(recordings) * len(asked.models), description="recordings")
        return [score(outcome, timed=asked.words, diarized=asked.diarize) for outcome in shown]


def _tell(
    scores: Sequence[Score], seed: int, about: Mapping[str, object], json_file: Path | None, html_file: Path | None
) -> None:
    """The table on stdout, failures on stderr, files whole or not at all."""
    from cosygate import __version__
    from cosygate.cli.transcribe import write_whole
    from cosygate.evaluate import page, table
    from cosygate.evaluate.summing import summaries

    figures = summaries(scores, seed)
    sys.stdout.write(table.text(figures))
    for score in scores:
        if score.failure:
            name = "".join(c if c.isprintable() else "?" for c in score.recording.name)
            typer.echo(f"cosygate: {name}: {score.failure}", err=True)
    about = {"cosygate": __version__, "at": datetime.now(UTC).isoformat(timespec="seconds"), **about}
    if json_file:
        told = table.as_json(about, figures, scores)
        write_whole(json_file, json.dumps(told, ensure_ascii=False, indent=1, allow_nan=False) + "\n")
    if html_file:
        write_whole(html_file, page.page(about, figures, scores))
