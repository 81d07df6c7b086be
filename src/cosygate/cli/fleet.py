"""`cosygate gateway` and `cosygate worker`: the parts of an installation on several machines, each alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cosygate.cli.options import DataDir, fail, settings_from

_MISSING = "several machines take more packages: install the packages of the extra `cluster` (docs/deploy.md)"


def gateway(
    host: Annotated[str | None, typer.Option(help="Address to listen on. [env var: COSYGATE_HOST]")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one. [env var: COSYGATE_PORT]")] = None,
    data_dir: DataDir = None,
    workers: Annotated[int | None, typer.Option(help="Gateway processes to start. [env var: COSYGATE_WORKERS]")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain (PEM). [env var: COSYGATE_TLS_CERT]")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key (PEM). [env var: COSYGATE_TLS_KEY]")] = None,
) -> None:
    """Run a gateway alone: engines are elsewhere (COSYGATE_ENGINE_ADDRESSES), and so may workers be."""
    settings = settings_from(
        host=host, port=port, data_dir=data_dir, workers=workers, tls_cert=tls_cert, tls_key=tls_key
    )
    if not settings.engine_addresses:
        fail("COSYGATE_ENGINE_ADDRESSES has to say where the engines are; `cosygate serve` starts its own", 2)
    from cosygate.serve import main

    raise typer.Exit(main(settings))


def worker(
    processes: Annotated[
        int | None, typer.Option(help="Processes to start. [env var: COSYGATE_WORKER_PROCESSES]")
    ] = None,
    jobs: Annotated[int | None, typer.Option(help="Jobs of each at once. [env var: COSYGATE_WORKER_JOBS]")] = None,
    queues: Annotated[
        str | None, typer.Option(help="normal, low, or normal,low. [env var: COSYGATE_WORKER_QUEUES]")
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option(help="Port of /metrics and /health; 0: none. [env var: COSYGATE_WORKER_METRICS_PORT]")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Run jobs for gateways elsewhere (Celery underneath): broker, database, store and engines are set as theirs."""
    settings = settings_from(
        worker_processes=processes,
        worker_jobs=jobs,
        worker_queues=queues,
        worker_metrics_port=metrics_port,
        data_dir=data_dir,
    )
    for name in ("broker_url", "database_url", "engine_addresses"):
        if not getattr(settings, name):
            fail(f"COSYGATE_{name.upper()} has to be set, as for the gateways", 2)
    import importlib.util

    if importlib.util.find_spec("celery") is None:
        fail(_MISSING, 2)
    from cosygate.serve.workers import main

    raise typer.Exit(main(settings))
