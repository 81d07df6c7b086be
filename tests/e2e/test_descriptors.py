"""Hundreds of connections fit into the limits that a shell starts with."""

from __future__ import annotations

import resource
from pathlib import Path

from tests.support.server import Server


def test_a_gateway_raises_its_limit_on_descriptors(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))  # inherited by the server
    try:
        with Server(tmp_path, recogniser="scripted") as server:
            [gateway] = server.find("cosygate.gateway")
            assert gateway.rlimit(resource.RLIMIT_NOFILE) == (min(hard, 65_536), hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
