"""Errors of what protects the service: limits, quotas, admission, the breaker, keys, webhooks."""

from __future__ import annotations

from cosygate.errors.families import Conflict, Invalid, NotFound, Refused, Unauthenticated, Unavailable


class QuotaExceeded(Refused):
    code, title = "quota_exceeded", "The tenant's quota is used up"


class LimitsUnavailable(Unavailable):
    code, title = "limits_unavailable", "The counters of rate limits cannot be reached"


class QueueFull(Unavailable):
    code, title = "queue_full", "Too much audio waits for an engine"


class TenantQueueFull(QueueFull):
    code, title = "tenant_queue_full", "Too much of this tenant's audio waits for an engine"


class BreakerOpen(Unavailable):
    code, title = "breaker_open", "The engines are failing; recordings begun before are still taken"


class RetriesSpent(Unavailable):
    code, title = "retries_spent", "Too many calls are repeated now; this one waits"


class TokenRevoked(Unauthenticated):
    code, title = "token_revoked", "The token or key has been revoked"


class KeysUnavailable(Unavailable):
    code, title = "keys_unavailable", "The issuer's keys cannot be fetched now"


class WebhookSecretMissing(Invalid):
    code, title = "webhook_secret_missing", "The tenant has no webhook secret yet"


class DeliveryNotFound(NotFound):
    code, title = "delivery_not_found", "There is no such delivery"


class DeliveryPending(Conflict):
    code, title = "delivery_pending", "The delivery is still being tried"
