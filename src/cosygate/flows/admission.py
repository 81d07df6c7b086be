"""How much audio may wait for the engines."""

from __future__ import annotations

from cosygate import errors


class Hold:
    """Room in the queue for a recording that is on its way in."""

    def close(self) -> None:
        """The recording is a job by now, or will not become one. May be called twice."""


class Admission:
    def refusal(self, tenant: str, *, low: bool) -> errors.Unavailable | None:
        """What a new recording would be refused with now. `low`: its priority, as far as known."""
        return None

    def hold(self, tenant: str, size: int | None) -> Hold:
        """Room for one whose first chunk has `size` bytes (None: not declared)."""
        return Hold()
