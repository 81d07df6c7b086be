"""`python -m cosygate.engine`: one engine process. Prints one line on stdout, `ready ADDRESS`, when it serves."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cosygate.kit.lineage import die_with_parent

if TYPE_CHECKING:
    from cosygate.kit.pem import PemFiles

CANNOT_START = 78  # exit status for a configuration or model at fault (EX_CONFIG, sysexits.h)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 after SIGTERM, 1 when the parent is gone, CANNOT_START."""
    options = _parse(argv)
    if options.parent_pid and not die_with_parent(options.parent_pid):
        return 1
    os.umask(0o077)  # the socket and temporary audio are ours alone
    return _run(options)


def _load_numpy() -> None:
    """With one thread, if the operator did not say otherwise: each slot is a thread already, and numpy's own, over
    matrices as small as these, only take the cores from each other. A program of the operator's hears nothing of it."""
    ours = "OPENBLAS_NUM_THREADS" not in os.environ
    if ours:
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
    import numpy  # noqa: F401 - it reads that once

    if ours:
        del os.environ["OPENBLAS_NUM_THREADS"]


def _run(options: argparse.Namespace) -> int:
    # Imported here: nothing heavy may come between the start and die_with_parent, and --help needs none of it.
    _load_numpy()
    from cosygate.kit import logs

    logs.configure(options.log_level)

    import asyncio

    import uvloop

    from cosygate.engine.extras import Extras
    from cosygate.engine.recognisers.base import CannotStart
    from cosygate.engine.recognisers.catalogue import RECOGNISERS, RecogniserOptions
    from cosygate.engine.server import ServerOptions, serve
    from cosygate.kit import tracing
    from cosygate.kit.clock import SystemClock

    try:
        tls = _tls(options)
    except ValueError as error:
        logs.logger().error("engine.cannot_start", recogniser=options.recogniser, detail=str(error))
        return CANNOT_START
    # Callers decide what is recorded: an engine begins no traces.
    name = options.listen.rpartition("/")[2].removesuffix(".sock")
    tracing.start(options.otlp_endpoint, 0.0, service="cosygate-engine", instance=name)
    recogniser_options = RecogniserOptions(
        slots=options.slots,
        command=options.command,
        command_timeout_s=options.command_timeout,
        script=options.script,
        model_dir=options.model_dir,
        num_threads=options.num_threads,
        funasr_url=options.funasr_url,
        funasr_mode=options.funasr_mode,
        funasr_languages=options.funasr_languages,
        funasr_capabilities=options.funasr_capabilities,
        funasr_ca=options.funasr_ca,
        funasr_timeout_s=options.funasr_timeout,
    )
    server_options = ServerOptions(
        options.listen,
        slots=options.slots,
        line=options.line,
        live=options.live,
        grace_s=options.grace,
        age_s=options.max_connection_age,
        age_grace_s=options.max_connection_age_grace,
        tls=tls,
    )
    try:
        recogniser = RECOGNISERS[options.recogniser](recogniser_options)
        if options.punctuation_dir is not None:
            from cosygate.engine.punctuation.punctuated import Punctuated

            recogniser = Punctuated.load(recogniser, options.punctuation_dir)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # a tenth less CPU per call
            extras = Extras.load(recogniser, options.slots, options.speakers_dir, options.num_threads)
            service = serve(recogniser, extras, server_options, SystemClock(), leave_sigint=bool(options.parent_pid))
            orderly = runner.run(service)
    except CannotStart as error:
        logs.logger().error("engine.cannot_start", recogniser=options.recogniser, detail=str(error))
        return CANNOT_START
    finally:
        tracing.stop(1.0)
    recogniser.close()
    if not orderly:
        os._exit(0)  # a thread is stuck in a recogniser; the interpreter would wait for it
    return 0


def _tls(options: argparse.Namespace) -> PemFiles | None:
    """Raises ValueError, in words for the operator."""
    if (options.tls_cert is None) != (options.tls_key is None):
        raise ValueError("--tls-cert and --tls-key go together")
    if options.tls_cert is None:
        if options.tls_client_ca is not None:
            raise ValueError("--tls-client-ca takes --tls-cert")
        return None
    from cosygate.kit.pem import PemFiles

    return PemFiles(ca=options.tls_client_ca, cert=options.tls_cert, key=options.tls_key)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="cosygate engine", description="Serves a recogniser over gRPC.")
    parser.add_argument(
        "--listen", required=True, metavar="ADDRESS", help="unix:/path or host:port (port 0: a free one)"
    )
    parser.add_argument(
        "--recogniser", default="moonshine", choices=("moonshine", "sherpa", "funasr", "command", "scripted")
    )
    parser.add_argument("--slots", type=_count, default=1, metavar="N", help="calls at once (default 1)")
    parser.add_argument("--line", type=_count, default=64, metavar="N", help="calls that may wait for a slot (64)")
    parser.add_argument("--live", type=_count, default=64, metavar="N", help="live calls at once, beside those (64)")
    parser.add_argument("--command", default="", metavar="TEMPLATE", help="program and arguments; {wav} is the file")
    parser.add_argument(
        "--command-timeout", type=_seconds, default=120.0, metavar="S", help="per piece of speech (120)"
    )
    parser.add_argument("--script", type=Path, metavar="FILE", help="JSON of the scripted recogniser")
    parser.add_argument("--model-dir", type=Path, metavar="FOLDER", help="the model of the sherpa recogniser")
    parser.add_argument(
        "--num-threads", type=_count, default=1, metavar="N", help="threads of sherpa that work on one piece (1)"
    )
    parser.add_argument("--speakers-dir", type=Path, metavar="FOLDER", help="the model that tells speakers apart")
    parser.add_argument("--punctuation-dir", type=Path, metavar="FOLDER", help="the model that punctuates plain text")
    parser.add_argument("--funasr-url", default="", metavar="URL", help="the FunASR runtime: ws:// or wss://host:port")
    parser.add_argument("--funasr-mode", default="offline", choices=("offline", "2pass"), help="which runtime it is")
    parser.add_argument(
        "--funasr-languages", type=_names, default=("zh",), metavar="TAGS", help="that its models know: zh,en,… (zh)"
    )
    parser.add_argument(
        "--funasr-capabilities", type=_names, default=(), metavar="NAMES", help="of words,emotion,itn,… (none)"
    )
    parser.add_argument("--funasr-ca", type=Path, metavar="FILE", help="vouches for a wss:// runtime (PEM)")
    parser.add_argument("--funasr-timeout", type=_seconds, default=60.0, metavar="S", help="per piece of speech (60)")
    parser.add_argument("--grace", type=_seconds, default=10.0, metavar="S", help="for running calls, on SIGTERM (10)")
    parser.add_argument(
        "--max-connection-age",
        type=_seconds,
        default=0.0,
        metavar="S",
        help="then callers connect anew and live calls move, perhaps to another engine (default: never)",
    )
    parser.add_argument(
        "--max-connection-age-grace",
        type=_seconds,
        default=30.0,
        metavar="S",
        help="for a live call of that age to come to the end of an utterance (30)",
    )
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate (PEM): callers must speak TLS")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key (PEM)")
    parser.add_argument(
        "--tls-client-ca", type=Path, metavar="FILE", help="vouches for callers; others are turned away (mTLS)"
    )
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    parser.add_argument("--otlp-endpoint", default="", metavar="URL", help="where spans go (OTLP over HTTP)")
    parser.add_argument("--parent-pid", type=_count, metavar="P", help="die with this process, which is the parent")
    return parser.parse_args(argv)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 24 * 3600:
        raise ValueError
    return value


if __name__ == "__main__":
    sys.exit(main())
