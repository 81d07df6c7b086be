"""`deploy/local-cluster`: starts all of it, says where it is, and ends all of it with Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from deploy.local_cluster.services import NotThere
from deploy.local_cluster.topology import LocalCluster


class _Ended(Exception):
    """SIGTERM or Ctrl-C."""


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    asked = _parse(argv)

    def end(*_: object) -> None:
        # Only the first: what follows ends all of it, and must not be interrupted.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        raise _Ended

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    with TemporaryDirectory(prefix="cosygate-cluster-", ignore_cleanup_errors=True) as own:
        cluster = LocalCluster(
            asked.data or Path(own),
            gateways=asked.gateways,
            workers=asked.workers,
            engines=asked.engines,
            recogniser=asked.recogniser,
            script=asked.script,
            slots=asked.slots,
            port=asked.port,
        )
        try:
            cluster.start()
            print(f"ready {cluster.url}", flush=True)
            print(f"token {cluster.token()}", flush=True)
            while True:
                signal.pause()
        except _Ended:
            return 0
        except NotThere as error:
            print(f"deploy/local-cluster: {error}", file=sys.stderr)
            return 1
        finally:
            cluster.stop()


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="deploy/local-cluster",
        description="All of an installation, from nginx to PostgreSQL, as processes of this machine, on loopback.",
    )
    for name in ("gateways", "workers", "engines"):
        parser.add_argument(f"--{name}", type=_some, default=2, metavar="N", help="processes (2)")
    parser.add_argument("--recogniser", choices=("scripted", "moonshine"), default="moonshine")
    parser.add_argument("--script", type=Path, metavar="FILE", help="JSON of the scripted recogniser")
    parser.add_argument(
        "--slots", type=_some, default=1, metavar="N", help="recordings that one engine has at once (1)"
    )
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="keeps data and logs; without it, nothing stays")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="of nginx (a free one)")
    return parser.parse_args(argv)


def _some(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 64:
        raise ValueError
    return value


if __name__ == "__main__":
    sys.exit(main())
