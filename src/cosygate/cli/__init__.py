"""The command line: one function a command, each saying what it takes. What a command needs is imported inside it, so
that `cosygate --help` answers at once.

Exit status: 0 all is well, 1 something failed, 2 the command or a setting is wrong, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cosygate.cli import fleet, keys, models
from cosygate.cli.evaluate import evaluate
from cosygate.cli.migrate import migrate
from cosygate.cli.options import DataDir
from cosygate.cli.options import fail as _fail
from cosygate.cli.options import settings_from as _settings
from cosygate.cli.quotas import app as quotas
from cosygate.cli.webhooks import app as webhooks

app = typer.Typer(
    name="cosygate",
    help="Self-hosted speech gateway: recordings in, transcripts out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(webhooks)
app.add_typer(quotas)
app.add_typer(keys.app)
app.add_typer(models.app)
app.command()(keys.revoke)


class Format(StrEnum):
    TXT = "txt"
    JSON = "json"
    SRT = "srt"
    VTT = "vtt"
    VTT_KARAOKE = "vtt-karaoke"
    TTML = "ttml"
    TSV = "tsv"


class Channels(StrEnum):
    MIX = "mix"
    SPLIT = "split"


class AudioFormat(StrEnum):
    S16LE = "s16le"
    MULAW = "mulaw"
    ALAW = "alaw"


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. [env var: COSYGATE_HOST]")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one. [env var: COSYGATE_PORT]")] = None,
    data_dir: DataDir = None,
    engines: Annotated[int | None, typer.Option(help="Engine processes to start. [env var: COSYGATE_ENGINES]")] = None,
    workers: Annotated[int | None, typer.Option(help="Gateway processes to start. [env var: COSYGATE_WORKERS]")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain (PEM). [env var: COSYGATE_TLS_CERT]")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key (PEM). [env var: COSYGATE_TLS_KEY]")] = None,
    parent: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run the gateway, its workers and its engines on this machine."""
    settings = _settings(
        host=host, port=port, data_dir=data_dir, engines=engines, workers=workers, tls_cert=tls_cert, tls_key=tls_key
    )
    if parent is not None:
        from cosygate.kit.lineage import die_with_parent

        if not die_with_parent(parent):
            raise typer.Exit(1)
    from cosygate.serve import main as serve_main

    raise typer.Exit(serve_main(settings))


app.command()(fleet.gateway)
app.command()(fleet.worker)
app.command()(migrate)
app.command()(evaluate)


@app.command()
def transcribe(
    files: Annotated[list[Path], typer.Argument(help="Recordings, in any common audio format.", show_default=False)],
    server: Annotated[
        str | None, typer.Option(envvar="COSYGATE_SERVER", help="A gateway's address; without it, one is started.")
    ] = None,
    token: Annotated[str | None, typer.Option(envvar="COSYGATE_TOKEN", help="Bearer token for --server.")] = None,
    format: Annotated[Format, typer.Option(envvar="COSYGATE_FORMAT", help="Of the transcript.")] = Format.TXT,  # noqa: A002 - the option's name
    out: Annotated[
        Path | None, typer.Option(envvar="COSYGATE_OUT", help="Folder to write NAME.FORMAT into, instead of stdout.")
    ] = None,
    language: Annotated[
        str | None, typer.Option(envvar="COSYGATE_LANGUAGE", help="BCP 47 tag, or auto (the default).")
    ] = None,
    model: Annotated[
        str | None, typer.Option(envvar="COSYGATE_MODEL", help="A name from GET /v1/models.", show_default=False)
    ] = None,
    channels: Annotated[
        Channels | None, typer.Option(envvar="COSYGATE_CHANNELS", help="mix (the default), or split: each alone.")
    ] = None,
    words: Annotated[bool, typer.Option("--words", envvar="COSYGATE_WORDS", help="When each word was said.")] = False,
    diarize: Annotated[bool, typer.Option("--diarize", envvar="COSYGATE_DIARIZE", help="Who speaks.")] = False,
    num_speakers: Annotated[
        int | None, typer.Option(min=1, max=30, envvar="COSYGATE_NUM_SPEAKERS", help="How many speakers there are.")
    ] = None,
    max_speakers: Annotated[
        int | None, typer.Option(min=1, max=30, envvar="COSYGATE_MAX_SPEAKERS", help="There are no more speakers.")
    ] = None,
    hotwords: Annotated[
        str | None, typer.Option(envvar="COSYGATE_HOTWORDS", help="Words to listen for, between commas.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Transcribe recordings. Run it again after an interruption: it continues where it stopped."""
    from cosygate.cli.embedded import ServerFailed
    from cosygate.cli.transcribe import UsageError, Wanted, run

    asked = {
        "language": language,
        "model": model,
        "channels": channels,
        "words": "true" if words else None,
        "diarize": "true" if diarize else None,
        "num_speakers": str(num_speakers) if num_speakers else None,
        "max_speakers": str(max_speakers) if max_speakers else None,
        "hotwords": hotwords,
    }
    wanted = Wanted(
        files=files,
        server=server,
        token=token,
        format=format.value,
        out=out,
        options={name: value for name, value in asked.items() if value is not None},
    )
    try:
        status = run(wanted, lambda: _settings(data_dir=data_dir))
    except UsageError as error:
        _fail(str(error), 2)
    except ServerFailed as error:
        _fail(str(error), 1)
    except KeyboardInterrupt:
        _fail("interrupted; the same command continues where this one stopped", 130)
    raise typer.Exit(status)


@app.command()
def live(
    source: Annotated[
        str | None, typer.Argument(metavar="[FILE | -]", help="A recording, or - for raw PCM from a pipe.")
    ] = None,
    mic: Annotated[bool, typer.Option("--mic", envvar="COSYGATE_MIC", help="Listen to the microphone.")] = False,
    speed: Annotated[
        str, typer.Option(envvar="COSYGATE_SPEED", help="Of a recording: 1 is real time, max as fast as can be.")
    ] = "1",
    server: Annotated[
        str | None, typer.Option(envvar="COSYGATE_SERVER", help="A gateway's address; without it, one is started.")
    ] = None,
    token: Annotated[str | None, typer.Option(envvar="COSYGATE_TOKEN", help="Bearer token for --server.")] = None,
    language: Annotated[
        str | None, typer.Option(envvar="COSYGATE_LANGUAGE", help="BCP 47 tag, or auto (the default).")
    ] = None,
    model: Annotated[
        str | None, typer.Option(envvar="COSYGATE_MODEL", help="A name from GET /v1/models.", show_default=False)
    ] = None,
    rate: Annotated[int, typer.Option(envvar="COSYGATE_RATE", help="Samples per second of -.")] = 16_000,
    format: Annotated[AudioFormat, typer.Option(envvar="COSYGATE_AUDIO_FORMAT", help="Of -.")] = AudioFormat.S16LE,  # noqa: A002 - the option's name
    partials: Annotated[
        bool, typer.Option(envvar="COSYGATE_PARTIALS", help="On a terminal, show words while they are spoken.")
    ] = True,
    diarize: Annotated[bool, typer.Option("--diarize", envvar="COSYGATE_DIARIZE", help="Who speaks.")] = False,
    max_speakers: Annotated[
        int | None, typer.Option(min=1, max=30, envvar="COSYGATE_MAX_SPEAKERS", help="There are no more speakers.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(envvar="COSYGATE_OUT_FILE", help="File to write the transcript into at the end.")
    ] = None,
    output_format: Annotated[
        Format | None,
        typer.Option(envvar="COSYGATE_OUTPUT_FORMAT", help="Of --out; default: as its name says, or txt."),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Print captions of speech as it is spoken. Ctrl-C ends it and waits for the last words; a second one does not."""
    from cosygate.cli.embedded import ServerFailed
    from cosygate.cli.live import Wanted, run
    from cosygate.cli.transcribe import UsageError

    wanted = Wanted(
        source=source,
        mic=mic,
        speed=speed,
        server=server,
        token=token,
        language=language,
        model=model,
        rate=rate,
        format=format.value,
        partials=partials,
        diarize=diarize,
        max_speakers=max_speakers,
        out=out,
        output_format=output_format.value if output_format else None,
    )
    try:
        status = run(wanted, lambda: _settings(data_dir=data_dir))
    except UsageError as error:
        _fail(str(error), 2)
    except ServerFailed as error:
        _fail(str(error), 1)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    raise typer.Exit(status)


@app.command()
def token(
    sub: Annotated[str, typer.Option(envvar="COSYGATE_SUB", help="Whom the token is for.", show_default=False)],
    scope: Annotated[
        list[str] | None,
        typer.Option(envvar="COSYGATE_SCOPE", help="audio:write, task:read, live, admin; default: the first three."),
    ] = None,
    tenant: Annotated[str | None, typer.Option(envvar="COSYGATE_TENANT", help="Whose customer they are.")] = None,
    ttl: Annotated[str, typer.Option(envvar="COSYGATE_TTL", help="How long it holds: 90s, 30m, 1h, 7d.")] = "1h",
    data_dir: DataDir = None,
) -> None:
    """Print a token, and nothing else."""
    from cosygate.cli.tokens import issue, seconds

    settings = _settings(data_dir=data_dir)
    try:
        typer.echo(issue(settings, sub, ttl_s=seconds(ttl), tenant=tenant, scopes=scope))
    except ValueError as error:
        _fail(str(error), 2)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def engine(context: typer.Context) -> None:
    """Run one engine process alone; `cosygate engine --help` shows its own options."""
    # The process becomes the engine: it gets signals itself, and nothing of the command line stays in memory.
    os.execv(sys.executable, [sys.executable, "-m", "cosygate.engine", *context.args])  # noqa: S606 - our own module


@app.command()
def doctor(
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")] = False,
) -> None:
    """Check data folder, database, decoder sandbox, engine and secrets, and say what to do."""
    from cosygate.doctor import run

    raise typer.Exit(run(_settings(data_dir=data_dir), as_json=as_json))


@app.command()
def version() -> None:
    """Print the version."""
    from cosygate import __version__

    typer.echo(__version__)


def main() -> None:
    app()
