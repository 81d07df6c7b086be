"""Celery, where a broker is configured; imported there, and nowhere else."""

from __future__ import annotations

from celery import Celery

from cosygate.adapters.queue_celery import LOW, NORMAL, TASK, make_app
from cosygate.settings import Settings

__all__ = ["LOW", "NORMAL", "TASK", "celery_app"]


def celery_app(settings: Settings) -> Celery:
    return make_app(settings.broker_url)
