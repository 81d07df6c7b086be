"""A journal in Redis (7.0 or newer) or Valkey, shared by the gateways of any number of hosts.

`RedisJournal` is the port."""

from __future__ import annotations

from cosygate.adapters.journal_redis.journal import RedisJournal

__all__ = ["RedisJournal"]
