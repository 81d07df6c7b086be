"""The article's design, built from its description: the baseline that CosyGate is compared with.

What was described: a Flask service under gunicorn with four gevent workers; `POST /v1/audio` takes multipart chunks
(`chunk`, `session_id`, `seq`, `is_last`) behind a JWT and writes each to a file of its own; the last chunk merges the
files into one recording, validates it with an ffprobe process and queues a Celery task on Redis; `GET /v1/task/<id>`
tells the task's state.

What was left to us was written as a competent engineer would: monkey-patched before anything else, so that sockets,
Redis and subprocesses all yield; chunk names checked; merging by `shutil.copyfileobj` with large buffers; no fsync, no
logging per request, nothing slowed down on purpose. More than half of what a chunk costs it is gunicorn handing the
body to WSGI in pieces of 1 KiB, which is this stack's way and not ours. Recognition is out of scope: the task does
nothing.
"""
