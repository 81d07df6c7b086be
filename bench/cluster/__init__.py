"""`make bench-cluster`: the whole of it as on many machines, by deploy/local_cluster: what it carries against Celery's
own rate, what a second engine adds, and what clients notice of rolling restarts and of a Redis that is away.

One module a work. `sending.py` and `steady.py` are load generators, `nothing.py` is Celery alone; each runs as
processes of its own.
"""
