"""Python imports this at its start when the folder is on PYTHONPATH. In a gateway process it takes away what `cost`
wants to know the price of: who is calling, limits and the gate, metrics, log lines and what they carry. The served
requests do the same work otherwise. For the benchmark alone: nothing of this can be set in CosyGate.

`cost` asks each server afterwards whether all of it is gone (or there): what a change of CosyGate puts out of this
file's reach, ends the run."""

import sys


class _Nothing:
    """A metric that counts nothing."""

    def __init__(self, *_args, **_options):
        pass

    def labels(self, *_args):
        return self

    def inc(self, *_args):
        pass

    dec = set = observe = inc


class _Open:
    """A way in that nobody counts."""

    standing = None
    low = False

    async def begun(self):
        pass

    async def undone(self):
        pass

    def close(self):
        pass


def _without_metrics():
    """Before kit/metrics.py is imported, which makes all of them."""
    from cosygate.kit import meters

    if "cosygate.kit.metrics" in sys.modules:
        raise RuntimeError("the metrics are made already")
    meters.Counter = meters.Gauge = meters.Histogram = _Nothing


def _without_limits():
    from cosygate.api import strangers
    from cosygate.flows import gate

    opened = _Open()

    async def chunk(*_args, **_options):
        return opened

    async def nothing(*_args):
        return None

    async def passes(self, scope, receive, send):
        await self._app(scope, receive, send)

    gate.Gate.chunk, gate.Gate.live, gate.Gate.undo_live = chunk, nothing, nothing
    strangers.StrangerLane.__call__ = passes


def _without_callers():
    """Before the doors are imported, which take `identify` by its name."""
    from cosygate.api import callers
    from cosygate.model.principal import Principal

    if "cosygate.api.article" in sys.modules:
        raise RuntimeError("a door has taken the real one already")
    somebody = Principal("bench")

    async def identify(request, _callers, _scope):
        request.scope["caller"] = somebody
        return somebody

    callers.identify = identify


def _without_telling():
    """The lines themselves go by COSYGATE_LOG_LEVEL; here what the edge does for them in each request: their context,
    the seconds that a slow one's line has, their fields."""
    from contextlib import nullcontext

    from cosygate.api import edge

    nowhere = nullcontext()

    async def receive(self):
        self._body_begun = True
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._body_over = True
        return message

    async def hand_on(self, message):
        await self._send(message)

    edge.bound = lambda **_fields: nowhere
    exchange = edge._Exchange
    for name in ("receive", "_hand_on", "record"):
        getattr(exchange, name)  # AttributeError: it is called otherwise by now
    exchange.receive, exchange._hand_on, exchange.record = receive, hand_on, lambda self: None


if "cosygate.gateway" in getattr(sys, "orig_argv", []):
    try:
        _without_metrics()
        _without_callers()
        _without_limits()
        _without_telling()
    except Exception as error:  # Python would tell of it and go on
        raise SystemExit(f"{__file__}: {error!r}") from error
