"""The Celery side of the article's design: a broker, a result backend, and a task that recognises nothing."""

import os

from celery import Celery

celery = Celery(
    "bench.article",
    broker=os.environ["ARTICLE_REDIS"] + "/0",
    # Results have a database of their own: its size is the number of finished tasks.
    backend=os.environ["ARTICLE_REDIS"] + "/1",
)
celery.conf.update(task_ignore_result=False, broker_connection_retry_on_startup=True)


@celery.task
def transcribe(recording: str) -> dict[str, str]:
    """Where the recogniser would run. `recording` is the path of the merged file."""
    return {"text": "", "file": recording.rsplit("/", 1)[-1]}
