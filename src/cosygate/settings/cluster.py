"""Settings of an installation that has outgrown one machine. Each is empty, or does nothing, by default: then `serve`
keeps everything itself, and none of the services, nor their Python packages, are needed."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings

from cosygate.model.engine_addresses import parse_addresses

_DATABASES = ("postgresql", "postgres", "postgresql+asyncpg")
_BROKERS = ("redis", "rediss", "amqp", "amqps")
_STORES = ("s3", "gs", "az")


class ClusterSettings(BaseSettings):
    # shared services
    database_url: str = Field(
        "", repr=False, description="`postgresql://user:password@host/name`; empty: SQLite in the data folder."
    )
    database_pool: int = Field(20, ge=1, le=1000, description="Connections that one process keeps to that database.")
    database_overflow: int = Field(40, ge=0, le=1000, description="Connections beyond those, when all are in use.")
    redis_url: str = Field(
        "",
        repr=False,
        description="`redis://host:6379/0` of what gateways share: live journal, breakers, limits; empty: files here.",
    )
    redis_pool: int = Field(200, ge=1, le=10_000, description="Connections that one process keeps to Redis at most.")
    broker_url: str = Field(
        "",
        repr=False,
        description="Celery's broker, `redis://…` or `amqp://…`: `cosygate worker` runs the jobs; empty: gateways do.",
    )
    store_url: str = Field("", description="`s3://bucket/prefix`, `gs://…`, `az://…`; empty: files in the data folder.")
    store_endpoint: str = Field("", description="Address of another S3-compatible store than Amazon's.")
    store_public_endpoint: str = Field(
        "", description="The same store's address as clients reach it: audio is then downloaded from there, presigned."
    )

    # engines elsewhere
    engine_addresses: str = Field(
        "",
        description="`host:port, host:port`, or `dns:name:port` for each address of a name; empty: `serve` starts its "
        "own.",
    )
    engine_lookup_s: float = Field(5.0, gt=0, le=300, description="Seconds between look-ups of a `dns:` name.")
    engine_tls_ca: Path | None = Field(
        None, description="Certificates (PEM) that vouch for engines; with it, calls to them are encrypted."
    )
    engine_tls_cert: Path | None = Field(None, description="Certificate (PEM) by which engines know this gateway.")
    engine_tls_key: Path | None = Field(None, description="Private key (PEM) of `engine_tls_cert`.")

    # workers
    worker_processes: int = Field(1, ge=1, le=256, description="Processes that `cosygate worker` starts.")
    worker_jobs: int = Field(4, ge=1, le=256, description="Jobs that each of them runs at once.")
    worker_queues: str = Field("normal,low", description="Which priorities a worker takes: `normal`, `low`, or both.")
    worker_memory_bytes: int = Field(
        0, ge=0, description="Resident bytes after which a worker's process is replaced, its jobs finished; 0: never."
    )
    worker_age_s: float = Field(
        0.0, ge=0, description="Seconds after which a worker's process is replaced, its jobs finished; 0: never."
    )
    worker_metrics_port: int = Field(
        0, ge=0, le=65535, description="Port of a worker's /metrics and /health, on the address `host`; 0: none."
    )

    @field_validator("database_url")
    @classmethod
    def _postgres(cls, value: str) -> str:
        return _address(value, _DATABASES, "it is postgresql://user:password@host/name")

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: str) -> str:
        return _address(value, ("redis", "rediss"), "it is redis://host:port/number, or rediss://…")

    @field_validator("broker_url")
    @classmethod
    def _broker(cls, value: str) -> str:
        return _address(value, _BROKERS, "it is redis://…, rediss://…, amqp://… or amqps://…")

    @field_validator("store_url")
    @classmethod
    def _store(cls, value: str) -> str:
        return _address(value, _STORES, "it is s3://bucket/prefix, gs://bucket/prefix or az://container/prefix")

    @field_validator("store_endpoint", "store_public_endpoint")
    @classmethod
    def _endpoint(cls, value: str) -> str:
        return _address(value, ("http", "https"), "it is http[s]://host[:port]")

    @field_validator("engine_addresses")
    @classmethod
    def _engines(cls, value: str) -> str:
        parse_addresses(value)
        return value

    @field_validator("worker_queues")
    @classmethod
    def _known_queues(cls, value: str) -> str:
        names = queues_of(value)
        if not names or not set(names) <= {"normal", "low"}:
            raise ValueError("they are normal, low, or normal,low")
        return value

    @model_validator(mode="after")
    def _belong_together(self) -> ClusterSettings:
        if (self.engine_tls_cert is None) != (self.engine_tls_key is None):
            raise ValueError("engine_tls_cert and engine_tls_key go together")
        if self.engine_tls_cert is not None and self.engine_tls_ca is None:
            raise ValueError("engine_tls_cert takes engine_tls_ca: without it, calls to engines are not encrypted")
        if self.broker_url and not self.database_url:
            raise ValueError("broker_url takes database_url: workers are other processes, and share the records")
        return self

    @property
    def shared(self) -> bool:
        """Whether other hosts' processes use the same records."""
        return bool(self.database_url)


def queues_of(names: str) -> tuple[str, ...]:
    return tuple(names.replace(",", " ").split())


def _address(value: str, schemes: tuple[str, ...], told: str) -> str:
    """Raises ValueError, which never tells the value: it may have a password in it."""
    if value:
        try:
            parts = urlsplit(value)
            fits = parts.scheme in schemes and bool(parts.netloc) and parts.port != 0
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(told)
    return value
