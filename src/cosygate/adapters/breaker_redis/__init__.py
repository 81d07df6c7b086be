"""Breakers of gateways and workers on several hosts, in one hash in Redis (or Valkey; 6.0 or newer)."""

from __future__ import annotations

from cosygate.adapters.breaker_redis.board import RedisBreakers

__all__ = ["RedisBreakers"]
