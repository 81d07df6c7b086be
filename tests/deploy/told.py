"""What the files of deploy/ may name: CosyGate's settings, its commands and their options."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache

from cosygate.settings import Settings

# Those of obstore and OpenTelemetry, and of the images of others.
FOREIGN = frozenset(
    {"AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "POSTGRES_PASSWORD", "POSTGRES_PASSWORD_FILE"}
    | {"POSTGRES_USER", "POSTGRES_DB", "PGDATA", "REDIS_PASSWORD", "REDISCLI_AUTH", "HOME", "ENGINE_HOST"}
    | {"MINIO_BROWSER", "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD", "ENGINE_OPTIONS"}
)
# What an installation on several machines is not without.
NEEDED = frozenset(
    {"COSYGATE_DATABASE_URL", "COSYGATE_REDIS_URL", "COSYGATE_BROKER_URL", "COSYGATE_STORE_URL"}
    | {"COSYGATE_ENGINE_ADDRESSES", "COSYGATE_JWT_SECRET"}
)

RESERVED = 3  # of PostgreSQL's connections: superuser_reserved_connections


def pool_of(told: dict[str, str]) -> int:
    """The connections to the database that one process with these variables may open."""
    names = ("database_pool", "database_overflow")
    return sum(int(told.get(f"COSYGATE_{name.upper()}", Settings.model_fields[name].default)) for name in names)


def check_variables(given: dict[str, str]) -> None:
    """Each is a setting, with a value that the settings take: alone, where others decide whether it fits."""
    for name, value in given.items():
        if name in FOREIGN:
            continue
        field = name.removeprefix("COSYGATE_").lower()
        assert name.startswith("COSYGATE_") and field in Settings.model_fields, f"{name} is no setting"
        together = {"broker_url": {"database_url": "postgresql://a/b"}}
        Settings(**{**together.get(field, {}), field: value})  # type: ignore[arg-type]  # pydantic checks them


def check_command(argv: list[str]) -> None:
    """`cosygate` has this command, and it has these options."""
    known = help_of(argv[0])
    for option in (part for part in argv[1:] if part.startswith("--")):
        assert re.search(rf"{option}\b", known), f"cosygate {argv[0]} has no option {option}"


@cache
def help_of(command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "cosygate", command, "--help"],
        capture_output=True, text=True, timeout=60, env={**os.environ, "COLUMNS": "200", "TERM": "dumb"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
