"""The chaos run: clients, faults and a checker, each a program of its own; `python -m tests.chaos.cluster` runs all.
docs/chaos.md tells how they fit together."""
