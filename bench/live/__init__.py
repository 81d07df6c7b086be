"""`make bench-live`: live streams through a real server: latency and memory, real speech, cuts, killed processes.

One module a work; `load.py` is the load generator, a process of its own; `report.py` writes the section Live of
docs/benchmarks.md. What cuts and kills share with the tests lies in tests/support/live_runs.py.
"""
