"""Webhooks, as flows need them: deliveries that wait, receivers' secrets, and the way out.

A delivery's row is written in the transaction that ends its job (ports/records.py), and goes with the job's row. Every
method that touches the records raises DatabaseBusy or StorageFull and has changed nothing then. `now` is seconds since
the epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cosygate.model.webhook import Answer, Delivery, DeliveryState, Gone, Message


@dataclass(frozen=True, slots=True)
class Room:
    """How much may be on its way at once, over all processes."""

    total: int = 16
    each: int = 2  # of one tenant to one host


@dataclass(frozen=True, slots=True)
class Begun:
    """A try that may be made now. `gone`: the receiver said 410 before, so it is not to be made after all."""

    delivery: Delivery
    gone: bool


class Sending(Protocol):
    async def due(self, now: float, longest_s: float) -> bool:
        """Whether any delivery is due, without a look at who is on its way. A delivery that is due later than
        `longest_s` from now is due: the clock has jumped."""

    async def begin(self, now: float, longest_s: float, lost_s: float, room: Room) -> list[Begun]:
        """Due deliveries for which there is room, oldest first within a tenant; tenants take turns, and none gets more
        than what it leaves free. Of each, the attempt is counted, and it is due again in `lost_s`, when whoever makes
        the try counts as dead: at least once, and by one caller at a time."""

    async def end(self, delivery: Delivery, state: DeliveryState, answer: Answer, due_at: float) -> bool:
        """What became of the try that `begin` gave: `delivered`, `dead`, or `pending` until `due_at`. False, and
        nothing changed, when the delivery is gone or somebody else makes another try by now; but delivered is
        delivered, whoever says so."""

    async def disable(self, tenant: str, url: str, now: float) -> None:
        """The receiver said 410: `begin` gives deliveries to it as `gone` from here on."""


class Deliveries(Protocol):
    async def page(self, owner: str, state: DeliveryState | None, before: str | None, limit: int) -> list[Delivery]:
        """The owner's, newest first, those before the id `before`."""

    async def dead(self, tenant: str | None, limit: int) -> list[Delivery]:
        """Dead letters of a tenant, or of all; the newest first."""

    async def count_dead(self) -> int: ...

    async def replay(self, owner: str | None, delivery_id: str, now: float) -> Delivery:
        """One that is not pending is due now, by the whole schedule, and its receiver is enabled again. `owner=None` is
        for the operator. Raises DeliveryNotFound, also for somebody else's; DeliveryPending."""


class Receivers(Protocol):
    """What is known of a tenant's receivers: the secret that they share with it, and those that said 410."""

    async def add_secret(self, tenant: str, secret: str, now: float) -> bool:
        """False, and nothing changed, when the tenant has one."""

    async def rotate_secret(self, tenant: str, secret: str, now: float, until: float) -> bool:
        """From now on `secret` signs, and the one before beside it until `until`. False when there is none. Repeated
        with the same secret it changes nothing."""

    async def secrets(self, tenant: str, now: float) -> tuple[str, ...]:
        """Those that sign now, the newest first; none when the tenant has none."""

    async def gone(self, tenant: str | None, limit: int) -> Sequence[Gone]:
        """Disabled receivers of a tenant, or of all."""

    async def enable(self, tenant: str, url: str) -> bool:
        """Deliveries go there again. False when it was not disabled."""


class GoneReceivers(Protocol):
    async def forget_gone(self, before: float, limit: int) -> bool:
        """Looks at the next `limit` receivers of all that said 410, and enables those that did so before `before`.
        False: there are no more, and the next call begins with the first again."""


class Post(Protocol):
    async def send(self, message: Message) -> Answer:
        """Signs and sends one try, and says how it went; raises nothing but CancelledError. It reaches only addresses
        that are allowed, follows nobody, and takes a bounded time whatever the receiver does."""
