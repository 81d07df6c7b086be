"""What `python -m bench.mix --only cost` compares: a server without limits, callers, metrics and logs, and one with."""

from pathlib import Path

import pytest

from bench.contestants import cosygate
from bench.mix import cost


@pytest.mark.parametrize("on", [False, True])
def test_both_serve_and_are_what_they_are_to_be(tmp_path: Path, on: bool) -> None:
    with cosygate(tmp_path, **cost.serving(tmp_path, on)) as target:  # type: ignore[arg-type]
        cost.check(target, on)
