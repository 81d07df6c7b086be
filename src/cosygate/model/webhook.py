"""Webhooks: who is told that a task has ended, how often it is tried, and what becomes of each delivery.

pending ──► delivered          the receiver answered 2xx
   │ ▲
   │ └── replay ──┐
   └────────────► dead         tried to the end of the schedule, or the receiver said 410
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from cosygate import errors
from cosygate.kit.clock import Randomness
from cosygate.model.addresses import literal

URL_MAX = 2048  # characters
OVERLAP_S = 24 * 3600.0  # how long a rotated secret's predecessor goes on signing beside it
RETRY_AFTER_MAX_S = 24 * 3600.0  # no receiver puts a delivery off for longer
SCHEDULE_MAX = 40  # steps
_STEP_MAX_S = 7 * 86_400.0
_JITTER = 0.1

# What RFC 3986 allows, and no more: a character that two parsers could read differently is refused.
_URL = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9.])?)"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?"
    r"(?P<query>\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?"
)
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")


class DeliveryState(StrEnum):
    PENDING = "pending"  # to be tried, or tried again
    DELIVERED = "delivered"
    DEAD = "dead"  # not tried any more, until somebody replays it


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a webhook goes."""

    secure: bool
    host: str  # a name, or an address without brackets; in lower case
    port: int
    target: str  # path and query

    @property
    def name(self) -> str:
        """Host and port, for log lines: path and query may be a secret."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @classmethod
    def parse(cls, url: str) -> Destination:
        """Raises ValueError, with what is wrong."""
        if len(url) > URL_MAX:
            raise ValueError(f"has at most {URL_MAX} characters")
        if "#" in url:
            raise ValueError("has no fragment")
        match = _URL.fullmatch(url)
        if match is None:
            authority = re.split(r"[/?]", url.partition("://")[2])[0]
            raise ValueError("has no user or password" if "@" in authority else "is an absolute URL, in ASCII")
        secure = match["scheme"] == "https"
        port = int(match["port"] or (443 if secure else 80))
        if not 0 < port < 65536:
            raise ValueError("has a port between 1 and 65535")
        host = match["host"].lower()
        try:
            address = literal(host)
        except ValueError:
            raise ValueError("has a host that is a name or an address") from None
        if address is None and not all(_LABEL.fullmatch(label) for label in host.removesuffix(".").split(".")):
            raise ValueError("has a host that is a name or an address")
        plain = host.removesuffix(".") if address is None else str(address)
        return cls(secure, plain, port, (match["path"] or "/") + (match["query"] or ""))


@dataclass(frozen=True, slots=True)
class Schedule:
    """Seconds between tries. There is one try more than steps; after it the delivery is dead."""

    steps: tuple[float, ...]

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Numbers, separated by spaces or commas. Raises ValueError."""
        steps = tuple(float(part) for part in text.replace(",", " ").split())
        if len(steps) > SCHEDULE_MAX or not all(0 < step <= _STEP_MAX_S for step in steps):
            raise ValueError(f"at most {SCHEDULE_MAX} numbers of seconds, each above 0 and at most {_STEP_MAX_S:g}")
        return cls(steps)

    @property
    def longest_s(self) -> float:
        """No delivery is ever due later than this from now: one that seems to be has seen a clock jump."""
        return max((*self.steps, RETRY_AFTER_MAX_S)) * (1 + _JITTER)

    def delay_s(self, attempt: int, retry_after_s: float, randomness: Randomness) -> float | None:
        """Seconds until the next try after try number `attempt` (from 1); None: there is none. A receiver that asked
        for more time (`retry_after_s`) gets it, within bounds."""
        if attempt > len(self.steps):
            return None
        step = max(self.steps[attempt - 1], min(retry_after_s, RETRY_AFTER_MAX_S))
        return step * randomness.uniform(1 - _JITTER, 1 + _JITTER)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One task's end, to be told to one receiver. `id` is the webhook-id of every try."""

    id: str
    job_id: str
    owner: str
    tenant: str
    url: str
    kind: str  # task.succeeded, task.failed, task.cancelled
    state: DeliveryState
    attempt: int  # tries so far, the one that runs among them
    due_at: float  # of the next try, seconds since the epoch; while one runs, when it counts as lost
    created_at: float  # when the task ended
    tried_at: float | None = None
    status: int | None = None  # the receiver's answer to the last try
    error: str | None = None  # stable code of the last try's failure


@dataclass(frozen=True, slots=True)
class Message:
    """What one try sends."""

    id: str
    tenant: str  # whose it is; not sent
    destination: Destination
    timestamp: float  # of this try, seconds since the epoch
    body: str  # JSON
    secrets: tuple[str, ...]  # whsec_…; one signature for each
    trace: dict[str, str]  # headers that continue the trace


@dataclass(frozen=True, slots=True)
class Answer:
    """How a try went. With a `status` the receiver has answered; `error` is a stable code, None: it took it."""

    status: int | None = None
    error: str | None = None
    retry_after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Gone:
    """A receiver that answered 410: nothing more is sent there until it is enabled again."""

    tenant: str
    url: str
    since: float  # seconds since the epoch


def host_of(url: str) -> str:
    """Host and port of a stored URL, for log lines and for who waits for whom; `unknown` when it was stored by rules
    that are no more."""
    try:
        return Destination.parse(url).name
    except ValueError:
        return "unknown"


def check_url(value: str) -> str:
    """The option `callback_url`, as far as its words go. Raises OptionInvalid."""
    try:
        Destination.parse(value)
    except ValueError as error:
        raise errors.OptionInvalid(f"callback_url {error}", option="callback_url") from None
    return value
