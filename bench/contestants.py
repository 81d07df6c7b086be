"""Who is measured: the article's design, nginx, bare ASGI, Celery alone, CosyGate; each started fresh, and stopped."""

import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jwt
from celery import Celery

from bench.processes import NotServing, free_port, listening, running

PYTHON_BIN = Path(sys.executable).parent
REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Target:
    """A server that is ready. `pid` leads its process tree."""

    port: int
    token: str
    pid: int
    data: Path  # where its recordings go

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def program(name: str) -> str:
    """Its path; also from the sbin folders, which a user's PATH may lack. Raises NotServing."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not found:
        raise NotServing(f"{name} is not installed (scripts/bench-services.sh)")
    return found


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """An empty Redis without persistence; yields its URL."""
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    with running("redis", [program("redis-server"), *options], lambda _: listening(port), folder):
        yield f"redis://127.0.0.1:{port}"


@contextmanager
def celery_worker(folder: Path, env: dict[str, str]) -> Iterator[None]:
    """Two prefork processes, as the article's. At this log level a worker does not say it is ready: it is pinged."""
    command = [str(PYTHON_BIN / "celery"), "-A", "bench.article.tasks", "worker", "--pool", "prefork"]
    command += ["--concurrency", "2", "--loglevel", "warning", "--without-gossip", "--without-mingle"]
    control = Celery(broker=env["ARTICLE_REDIS"] + "/0").control
    with running("celery", command, lambda _: bool(control.ping(timeout=0.25)), folder, env):
        yield


@contextmanager
def article(folder: Path) -> Iterator[Target]:
    """Flask under gunicorn with four gevent workers, Celery with two processes, Redis."""
    port, secret, data = free_port(), secrets.token_hex(32), folder / "data"
    data.mkdir()
    with redis(folder) as url:
        env = {"ARTICLE_REDIS": url, "ARTICLE_SECRET": secret, "ARTICLE_DATA": str(data), "PYTHONPATH": str(REPOSITORY)}
        command = [str(PYTHON_BIN / "gunicorn"), "-k", "gevent", "-w", "4", "-b", f"127.0.0.1:{port}"]
        command += ["--log-level", "warning", "bench.article.app:app"]
        with (
            celery_worker(folder, env),
            running("gunicorn", command, lambda _: listening(port), folder, env) as process,
        ):
            claims = {"sub": "bench", "exp": int(time.time()) + 3600}
            yield Target(port, jwt.encode(claims, secret, "HS256"), process.pid, data)


NGINX = """
daemon off;
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
  keepalive_requests 1000000;
  client_max_body_size 16m;
  client_body_temp_path {data}/.body;
  proxy_temp_path {folder}/t1; fastcgi_temp_path {folder}/t2; uwsgi_temp_path {folder}/t3; scgi_temp_path {folder}/t4;
  server {{
    listen 127.0.0.1:{port};
    location / {{ root {data}; dav_methods PUT; create_full_put_path on; dav_access user:rw; }}
  }}
}}
"""


@contextmanager
def nginx(folder: Path) -> Iterator[Target]:
    """Plain PUT to disk: what moving the bytes costs when nothing else is done. No token, no checks, no fsync."""
    port, data = free_port(), folder / "data"
    data.mkdir()
    config = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""  # the workers write into our own folder
    config.write_text(user + NGINX.format(folder=folder, data=data, port=port))
    command = [program("nginx"), "-p", str(folder), "-c", str(config)]
    with running("nginx", command, lambda _: listening(port), folder) as process:
        yield Target(port, "", process.pid, data)


@contextmanager
def bare(folder: Path) -> Iterator[Target]:
    """Two uvicorn workers around bench/bare_asgi.py."""
    port, secret, data = free_port(), secrets.token_hex(32), folder / "data"
    data.mkdir()
    env = {"BARE_SECRET": secret, "BARE_DATA": str(data), "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "uvicorn", "bench.bare_asgi:app", "--workers", "2", "--port", str(port)]
    command += ["--loop", "uvloop", "--http", "httptools", "--ws", "none", "--lifespan", "off"]
    command += ["--no-access-log", "--log-level", "warning"]
    with running("uvicorn", command, lambda _: listening(port), folder, env) as process:
        claims = {"sub": "bench", "exp": int(time.time()) + 3600}
        yield Target(port, jwt.encode(claims, secret, "HS256"), process.pid, data)


@contextmanager
def cosygate(folder: Path, environment: dict[str, str] | None = None, **settings: object) -> Iterator[Target]:
    """`cosygate serve` with `settings` as COSYGATE_… variables, in a fresh data folder. One caller sends more than any
    real one may, so its rate is limited only where a work says so."""
    data = folder / "data"
    given = {"data_dir": data, "rate_limits": "off", **settings}
    env = {**(environment or {}), **{f"COSYGATE_{k.upper()}": str(v) for k, v in given.items()}}
    port, binary = free_port(), str(PYTHON_BIN / "cosygate")
    with running(
        "cosygate", [binary, "serve", "--port", str(port)], lambda out: "ready http" in out, folder, env
    ) as process:
        token = subprocess.run(
            [binary, "token", "--sub", "bench"], env={**os.environ, **env}, check=True, capture_output=True, text=True
        ).stdout.strip()
        yield Target(port, token, process.pid, data)
