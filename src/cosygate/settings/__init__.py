"""Every setting, once: one frozen object made at start from `COSYGATE_…` variables and command-line options.

docs/settings.md lists them (a test holds the two together). Nothing below wiring sees this object.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from cosygate.kit.networks import parse_networks
from cosygate.model.addresses import Reach
from cosygate.model.rates import parse_named_rates, parse_rates
from cosygate.model.webhook import Schedule
from cosygate.settings.cluster import ClusterSettings
from cosygate.settings.commands import OF_COMMANDS


def default_data_dir() -> Path:
    """$XDG_DATA_HOME/cosygate, else ~/.local/share/cosygate (XDG Base Directory specification)."""
    base = os.environ.get("XDG_DATA_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "share") / "cosygate"


class Settings(ClusterSettings):
    model_config = SettingsConfigDict(env_prefix="COSYGATE_", frozen=True, extra="forbid", env_ignore_empty=True)

    # where
    host: str = Field("127.0.0.1", description="Address that `serve` listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port that `serve` listens on; 0 takes a free one.")
    data_dir: Path = Field(default_factory=default_data_dir, description="Folder for database, recordings, secrets.")
    tls_cert: Path | None = Field(None, description="Certificate chain (PEM); with `tls_key`, `serve` speaks HTTPS.")
    tls_key: Path | None = Field(None, description="Private key (PEM) of `tls_cert`.")

    # how many
    workers: int = Field(1, ge=1, le=64, description="Gateway processes that `serve` starts.")
    engines: int = Field(1, ge=1, le=64, description="Engine processes that `serve` starts.")
    engine_slots: int = Field(2, ge=1, le=64, description="Recordings that one engine recognises at once.")
    engine_live: int = Field(64, ge=1, le=1000, description="Live streams that one engine listens to at once.")
    runner_jobs: int = Field(0, ge=0, le=256, description="Jobs one gateway process runs at once; 0: as engine slots.")

    # recogniser
    recogniser: Literal["moonshine", "sherpa", "command", "scripted"] = Field(
        "moonshine", description="What the embedded engines recognise with."
    )
    model_dir: Path | None = Field(None, description="With `sherpa`: the model's folder (`cosygate models path NAME`).")
    num_threads: int = Field(1, ge=1, le=64, description="Threads that work on one piece: `sherpa`, `speakers_dir`.")
    speakers_dir: Path | None = Field(None, description="A model's folder that tells recordings' speakers apart.")
    punctuation_dir: Path | None = Field(None, description="A model's folder that punctuates plain texts.")
    command: str = Field("", description="With `command`: the program and its arguments, `{wav}` is the file.")
    command_timeout_s: float = Field(120.0, gt=0, le=3600, description="Seconds the program may take per segment.")
    script: Path | None = Field(None, description="With `scripted`: JSON file of texts, delays and failures.")

    # callers
    jwt_secret: str = Field("", repr=False, description="HS256 secret, at least 32 bytes; empty: one is generated.")
    jwt_audience: str = Field("", description="Required `aud` of tokens; empty: not checked.")
    jwt_issuer: str = Field("", description="Required `iss` of tokens; empty: not checked.")
    jwt_jwks_url: str = Field(
        "", description="The issuer's key set (JWKS); with it, RS256, ES256 and EdDSA tokens are accepted, too."
    )
    jwt_jwks_refresh_s: float = Field(300.0, ge=1, le=86_400, description="Seconds between looks at the key set.")
    revocation_every_s: float = Field(
        2.0,
        gt=0,
        le=4,
        description="Seconds between looks for what was revoked, so at most so long it goes on.",
    )
    trusted_proxies: str = Field(
        "", description="Addresses or networks of proxies whose X-Forwarded-For tells who a caller is."
    )

    # limits
    rate_limits: str = Field(
        "600/minute",
        description="Recordings, and live starts, of one principal: `600/minute; 5000/hour`, or for each alone "
        "`recordings=600/minute live=60/minute`; `article`: the article's `10/minute; 100/hour`; `off`.",
    )
    rate_limits_failing: Literal["open", "closed"] = Field(
        "open", description="When the counters cannot be reached: `open` lets pass, `closed` answers 503."
    )
    unauthenticated_limit: str = Field(
        "300/minute", description="Requests without a valid token from one address; beyond it 429. `off`: no limit."
    )
    quota_day_s: float = Field(0.0, ge=0, description="Seconds of audio per tenant and day (UTC); 0: no quota.")
    quota_month_s: float = Field(0.0, ge=0, description="Seconds of audio per tenant and month (UTC); 0: no quota.")
    quota_live: int = Field(0, ge=0, description="Live sessions open at once per tenant; 0: no quota.")

    # admission
    queue_max_s: float = Field(
        360_000.0, gt=0, description="Seconds of audio that may wait for an engine; beyond it new recordings get 503."
    )
    queue_tenant_share: float = Field(0.5, gt=0, le=1, description="Share of the queue that one tenant may fill.")
    queue_low_share: float = Field(
        0.5, gt=0, le=1, description="Share of the queue beyond which recordings of low priority get 503."
    )
    breaker_open_s: float = Field(
        60.0, gt=0, le=3600, description="Seconds that an engine's circuit breaker stays open before a probe."
    )

    # webhooks
    webhook_allow: str = Field(
        "", description="Private addresses or networks that webhooks may go to; public ones always may."
    )
    webhook_scheme: Literal["https", "any"] = Field(
        "https", description="What `callback_url` may be: `https` alone, or plain `http` as well (`any`)."
    )
    webhook_timeout_s: float = Field(15.0, gt=0, le=60, description="Seconds that a receiver gets to answer.")
    webhook_schedule: str = Field(
        "5 300 1800 7200 18000 36000 50400 72000 86400",
        description="Seconds between tries of a delivery, each ± 10 %; after the last it is a dead letter.",
    )

    # promises
    durability: Literal["disk", "process"] = Field(
        "disk", description="`disk`: acknowledged survives power loss; `process`: survives kill -9 (no fsync)."
    )
    retention_hours: float = Field(24 * 7.0, gt=0, description="Hours after which a finished task is erased.")
    upload_expiry_hours: float = Field(24.0, gt=0, description="Hours after which an unfinished upload is erased.")
    restart_longest_s: float = Field(
        30.0, gt=0, le=600, description="Longest pause before `serve` starts a process again that keeps dying."
    )
    watch_every_s: float = Field(
        5.0,
        gt=0,
        le=60,
        description="Seconds between looks of `serve` at each process; it replaces one that missed three.",
    )
    drain_s: float = Field(10.0, ge=0, le=600, description="Seconds that requests and jobs get to end on SIGTERM.")

    # bounds
    chunk_max_bytes: int = Field(8 * 1024**2, ge=1024, le=256 * 1024**2, description="Largest chunk.")
    recording_max_bytes: int = Field(2 * 1024**3, ge=1024, description="Largest recording.")
    recording_max_s: float = Field(12 * 3600.0, gt=0, description="Longest recording, in decoded seconds.")
    recording_max_parts: int = Field(20_000, ge=1, le=100_000, description="Most parts of one recording.")
    open_uploads: int = Field(64, ge=1, le=100_000, description="Open uploads per principal.")
    store_max_bytes: int = Field(50 * 1024**3, ge=1024**2, description="Most bytes on disk; beyond it 507.")
    store_min_free_bytes: int = Field(64 * 1024**2, ge=0, description="Bytes the file system keeps free; below, 507.")
    body_idle_s: float = Field(20.0, gt=0, le=600, description="Seconds without a byte after which a body is cut off.")
    body_total_s: float = Field(300.0, gt=0, le=7200, description="Seconds that one request's body may take in all.")
    engine_idle_s: float = Field(60.0, gt=0, le=3600, description="Seconds of an engine's silence that end a call.")
    decoder_cpu_s: int = Field(600, ge=1, le=7200, description="CPU seconds of one decoding in the sandbox.")
    decoder_memory_bytes: int = Field(1024**3, ge=256 * 1024**2, description="Address space of one decoding.")
    decoder_sandbox: Literal["required", "degraded"] = Field(
        "required", description="`degraded`: decode compressed media even where the kernel offers no sandbox."
    )

    # live
    live_sessions: int = Field(1000, ge=1, le=100_000, description="Live sessions open at once in all; beyond it 4503.")
    live_sessions_each: int = Field(20, ge=1, le=100_000, description="Of them, of one principal; beyond it 4429.")
    live_window_s: float = Field(
        300.0, gt=0, le=24 * 3600, description="Seconds a live session waits for its client before it ends by itself."
    )
    live_idle_s: float = Field(
        30.0, gt=0, le=3600, description="Seconds without a message after which a live connection is closed (4408)."
    )
    live_slow_s: float = Field(
        10.0, gt=0, le=600, description="Seconds a live client may read nothing before it is closed (4008)."
    )
    live_engine_idle_s: float = Field(
        8.0, gt=0, le=600, description="Seconds of an engine's silence while it is fed that end a live call."
    )
    live_unheard_tries: int = Field(
        10, ge=1, le=1000, description="Engine calls in a row that must end at the same sound before it is left out…"
    )
    live_unheard_s: float = Field(20.0, ge=0, le=3600, description="…and the seconds for which it is tried, at least.")
    live_origins: str = Field(
        "", description="Origins of pages, beside the server's own, that may open live sessions (`https://a.example`)."
    )

    # leases (reliability.md; tests shorten them)
    lease_renew_s: float = Field(10.0, gt=0, le=60, description="Seconds between renewals of a claim.")
    lease_expire_s: float = Field(30.0, gt=0, le=600, description="Seconds a claim may stand still.")
    reaper_every_s: float = Field(5.0, gt=0, le=60, description="Seconds between looks for claims that stand still.")
    housekeeping_every_s: float = Field(60.0, gt=0, le=3600, description="Seconds between expiry and retention runs.")

    # telling
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level of log lines.")
    slow_request_s: float = Field(
        5.0,
        gt=0,
        le=3600,
        description="Seconds after which a request is logged as slow.",
    )
    otlp_endpoint: str = Field(
        "", description="Where traces go (OTLP over HTTP), such as `http://127.0.0.1:4318`; empty: no traces."
    )
    trace_ratio: float = Field(1.0, ge=0, le=1, description="Share of traces recorded, unless a caller decided.")
    metrics_allow: str = Field("", description="Addresses or networks that read /metrics; loopback always may.")

    @field_validator("jwt_secret")
    @classmethod
    def _secret_not_blank(cls, value: str) -> str:
        return value.strip()

    @field_validator("rate_limits")
    @classmethod
    def _countable(cls, value: str) -> str:
        parse_named_rates(value)
        return value

    @field_validator("unauthenticated_limit")
    @classmethod
    def _countable_strangers(cls, value: str) -> str:
        parse_rates(value)
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _known_proxies(cls, value: str) -> str:
        parse_networks(value)
        return value

    @field_validator("jwt_jwks_url")
    @classmethod
    def _trusted_keys(cls, value: str) -> str:
        """Raises ValueError: over plain HTTP, whoever is on the way could put in keys of their own."""
        parts = urlsplit(value)
        here = parts.hostname in ("localhost", "127.0.0.1", "::1")
        fits = parts.scheme == "https" or (parts.scheme == "http" and here)
        if value and not (fits and parts.hostname and "@" not in parts.netloc):
            raise ValueError("it is an https address without a password; plain http only to this machine")
        return value

    @field_validator("live_origins")
    @classmethod
    def _whole_origins(cls, value: str) -> str:
        """Raises ValueError: an origin with a path, or none at all, would never match."""
        for origin in value.replace(",", " ").split():
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or not parts.netloc or parts.path or parts.query:
                raise ValueError("an origin is scheme://host[:port], and nothing after it")
        return value

    @field_validator("webhook_allow")
    @classmethod
    def _networks(cls, value: str) -> str:
        Reach.parse(value)
        return value

    @field_validator("webhook_schedule")
    @classmethod
    def _steps(cls, value: str) -> str:
        Schedule.parse(value)
        return value

    @field_validator("otlp_endpoint")
    @classmethod
    def _plain_endpoint(cls, value: str) -> str:
        """Raises ValueError. Engines get it as an argument, which everybody on the machine may read: no secrets."""
        parts = urlsplit(value)
        plain = parts.scheme in ("http", "https") and parts.hostname and not parts.query and "@" not in parts.netloc
        if value and not plain:
            raise ValueError("it is http[s]://host[:port][/path]; credentials go into OTEL_EXPORTER_OTLP_HEADERS")
        return value

    @model_validator(mode="after")
    def _fit_together(self) -> Settings:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together")
        return self


def unknown_variables() -> list[str]:
    """COSYGATE_… variables that nothing reads: misspelt, most likely."""
    known = {name.upper() for name in Settings.model_fields} | OF_COMMANDS
    found = (name for name in os.environ if name.startswith("COSYGATE_"))
    return sorted(name for name in found if name.removeprefix("COSYGATE_") not in known)


def load(**overrides: object) -> Settings:
    """Settings from the environment, with those options that were given (not None) on top.

    Raises ValueError with one line per wrong setting, naming the variable; never the value (it may be a secret).
    """
    try:
        return Settings(**{k: v for k, v in overrides.items() if v is not None})  # type: ignore[arg-type]  # pydantic checks them
    except ValidationError as error:
        lines = (
            f"COSYGATE_{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" if e["loc"] else e["msg"]
            for e in error.errors()
        )
        raise ValueError("\n".join(lines)) from None


def to_environment(settings: Settings) -> dict[str, str]:
    """The environment in which a child process finds these settings."""
    values = {k: v for k, v in settings.model_dump().items() if v is not None}
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("COSYGATE_")}
    return inherited | {f"COSYGATE_{k.upper()}": str(v) for k, v in values.items()}
