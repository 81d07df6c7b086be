"""The whole of it: gateways, workers and engines behind nginx, with PostgreSQL, Redis and an object store, as processes
of this machine. For trying it out, for tests, and for measuring; what is in here has no passwords.

    with LocalCluster(folder) as cluster:
        client = Client(cluster.url, cluster.token("alice"))
        cluster.gateways[0].kill()
        cluster.gateways[0].start()
"""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.local_cluster.balancer import Nginx
from deploy.local_cluster.processes import Engine, Gateway, Process, Worker
from deploy.local_cluster.services import HOST, NotThere, ObjectStore, Postgres, Redis, Service
from deploy.local_cluster.store_proxy import StoreProxy

_MIGRATE_S = 120.0


class LocalCluster:
    """Its parts are `nginx`, `gateways`, `workers`, `engines`, `postgres`, `redis`, `store`, `store_proxy`: each is
    a service with `start`, `stop`, `kill`, `pause`, `resume`, `running()`, `port`, `log`."""

    def __init__(
        self,
        folder: Path,
        *,
        gateways: int = 2,
        workers: int = 2,
        engines: int = 2,
        recogniser: str = "scripted",
        script: Path | None = None,
        slots: int = 2,
        live: int = 64,
        engine_options: Sequence[str] = (),
        port: int = 0,
        cut_off: bool = True,
        redis_persistent: bool = False,
        **settings: object,
    ) -> None:
        """`folder` holds all data and logs; the same one again continues where it was, but for the store, which keeps
        objects in memory. (Where root starts it, PostgreSQL runs as nobody, who has to get there: not below pytest's
        tmp_path, which every other pytest closes when it starts.) Without workers, gateways run the jobs. `slots`,
        `live`: of each engine. `port`: of nginx, 0 takes a free one. `cut_off`: the store stands behind a proxy that
        can cut it off, and costs CPU. `settings`: of every gateway and worker, by the names of docs/settings.md
        without COSYGATE_."""
        folder = folder.absolute()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self.secret = _secret(folder / "jwt_secret")
        self.postgres = Postgres(folder / "postgres")
        self.redis = Redis(folder / "redis", persistent=redis_persistent)
        self.store = ObjectStore(folder / "store")
        self.store_proxy = StoreProxy(folder / "store-proxy", self.store.port) if cut_off else None
        self.engines = [
            Engine(
                folder / f"engine-{i}",
                recogniser=recogniser,
                script=script,
                slots=slots,
                live=live,
                options=engine_options,
            )
            for i in range(engines)
        ]
        self.settings = self._shared() | ({"broker_url": f"{self._redis}/1"} if workers else {}) | settings
        self.gateways = [Gateway(folder / f"gateway-{i}", self.settings) for i in range(gateways)]
        self.workers = [Worker(folder / f"worker-{i}", self.settings) for i in range(workers)]
        self.nginx = Nginx(folder / "nginx", [f"{HOST}:{gateway.port}" for gateway in self.gateways], port)

    def _shared(self) -> dict[str, object]:
        """What all gateways and workers are told."""
        return {
            "database_url": self.postgres.url,
            "redis_url": f"{self._redis}/0",
            "store_url": "s3://cosygate",
            "store_endpoint": (self.store_proxy or self.store).endpoint,
            "engine_addresses": ", ".join(engine.address for engine in self.engines),
            "jwt_secret": self.secret,
            "trusted_proxies": HOST,
            "drain_s": 5,
            **self.store.credentials,
        }

    @property
    def _redis(self) -> str:
        return self.redis.url.rpartition("/")[0]

    @property
    def url(self) -> str:
        """Of nginx: where clients go."""
        return self.nginx.url

    def token(self, sub: str = "local", ttl_s: float = 86400.0, **claims: object) -> str:
        """One that every gateway takes. `claims`: tenant=…, scopes=[…]."""
        from cosygate.adapters.callers_jwt import issue

        return issue(self.secret, subject=sub, now=time.time(), ttl_s=ttl_s, **claims)  # type: ignore[arg-type]  # as issue() says

    def parts(self) -> list[Service]:
        """In the order in which they can be stopped."""
        proxy = [self.store_proxy] if self.store_proxy else []
        return [self.nginx, *self.gateways, *self.workers, *self.engines, *proxy, self.store, self.redis, self.postgres]

    def start(self) -> Self:
        """Returns when all of it can be used. Raises NotThere, and leaves nothing running then."""
        try:
            # One after the other where one needs the other; the rest side by side.
            _at_once(part.start for part in (self.postgres, self.redis, self.store))
            if self.store_proxy is not None:
                self.store_proxy.start()
            self.migrate()
            for group in (self.engines, self.workers, self.gateways):  # not all at once: each is to be ready in 30 s
                _at_once(part.start for part in group)
            self.nginx.start()
        except BaseException:
            self.kill()
            raise
        return self

    def migrate(self) -> None:
        """Brings the database to this version, as `cosygate migrate` does. Raises NotThere with what it said."""
        folder = self.folder / "migrate"
        told = Process(folder, self.settings | {"data_dir": folder}).environment()
        argv = [sys.executable, "-m", "cosygate", "migrate"]
        done = subprocess.run(argv, env=told, capture_output=True, text=True, timeout=_MIGRATE_S)
        if done.returncode != 0:
            raise NotThere(f"cosygate migrate: {done.stderr[-2000:]}")

    def stop(self) -> None:
        """All of it, in order: requests end, jobs are finished or handed back. Idempotent."""
        services = [part for part in (self.store_proxy, self.store, self.redis, self.postgres) if part]
        for group in ([self.nginx], self.gateways, self.workers, self.engines, services):
            _at_once(part.stop for part in group)

    def kill(self) -> None:
        """All of it at once, as when the machine's power goes. Idempotent."""
        _at_once(part.kill for part in self.parts())

    def cut_store(self, away: bool) -> None:
        """The object store is out of reach of everybody, or is back."""
        if self.store_proxy is None:
            raise ValueError("it was made with cut_off=False")
        if away:
            self.store_proxy.cut()
        else:
            self.store_proxy.heal()

    def running(self) -> Mapping[str, bool]:
        """By the folder's name."""
        return {part.folder.name: part.running() for part in self.parts()}

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self.stop()


def _at_once(actions: Iterable[Callable[[], object]]) -> None:
    """Raises what the first of them raised, once all have ended."""
    wanted = list(actions)
    with ThreadPoolExecutor(max(1, len(wanted))) as threads:
        running = [threads.submit(action) for action in wanted]
    for each in running:
        each.result()


def _secret(path: Path) -> str:
    with contextlib.suppress(FileExistsError), path.open("x") as file:
        path.chmod(0o600)
        file.write(secrets.token_urlsafe(48))
    return path.read_text()
