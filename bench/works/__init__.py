"""One file per kind of work; each says what is measured, for whom, and which bar the order sets."""

from bench.plan import Config, Work
from bench.works import chunk, finish, memory, short, speech


def all_works(config: Config) -> list[Work]:
    """In the order they are run and shown."""
    return [module.work(config) for module in (chunk, short, finish, speech, memory)]
