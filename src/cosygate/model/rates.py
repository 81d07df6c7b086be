"""Rate limits: as an operator writes them, and as what is counted."""

from __future__ import annotations

import re
from dataclasses import dataclass

RECORDINGS, LIVE, UNAUTHENTICATED = "recordings", "live", "unauthenticated"  # what is counted
COUNTED = (RECORDINGS, LIVE)  # of principals
PRESETS = {"article": "10/minute; 100/hour", "off": ""}
USUAL = "600/minute"
_MOST_RATES = 8  # for one thing that is counted
_LONGEST_S = 366 * 86_400
_MOST = 10**9
_NAMED = re.compile(r"(?<![\w-])([A-Za-z_-]+)\s*=")


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `amount` in any `window_s` seconds."""

    amount: int
    window_s: int


def parse_rates(text: str) -> tuple[Rate, ...]:
    """`10/minute; 100 per hour`, as flask-limiter reads it, or the name of a preset; `off` is none. Raises ValueError,
    which never repeats the text."""
    text = PRESETS.get(text.strip().lower(), text).strip()
    if not text:
        return ()
    if text == USUAL:
        return (Rate(600, 60),)  # without the library: it takes a tenth of a second to import
    from limits import parse_many

    try:
        rates = {Rate(item.amount, item.get_expiry()) for item in parse_many(text)}
    except ValueError:
        raise ValueError("a limit is a number per second, minute, hour, day or month, such as 600/minute") from None
    if len(rates) > _MOST_RATES:
        raise ValueError(f"at most {_MOST_RATES} limits go together")
    if any(not (0 < rate.amount <= _MOST and 0 < rate.window_s <= _LONGEST_S) for rate in rates):
        raise ValueError("a limit lets at least one through, in a window of a second to a year")
    return tuple(sorted(rates, key=lambda rate: (rate.window_s, rate.amount)))


def parse_named_rates(text: str) -> dict[str, tuple[Rate, ...]]:
    """One text for all that is counted of principals, or `recordings=600/minute live=60/minute`: what is not named
    there has the usual rate. Raises ValueError."""
    if not text.strip():
        raise ValueError("a limit is expected, or off")
    before, *parts = _NAMED.split(text)
    if not parts:
        rates = parse_rates(text)
        return dict.fromkeys(COUNTED, rates)
    names = parts[::2]
    if before.strip() or not set(names) <= set(COUNTED) or len(set(names)) < len(names):
        raise ValueError(f"limits are given for {' and '.join(COUNTED)}, each once, or one for both")
    found = {name: parts[2 * n + 1].strip().strip(",;").strip() for n, name in enumerate(names)}
    if not all(found.values()):
        raise ValueError("a limit is expected after each =")
    return {name: parse_rates(found.get(name, USUAL)) for name in COUNTED}
