"""Python imports this at its start when the folder is on PYTHONPATH. In a gateway process it takes away what `cost`
wants to know the price of: who is calling, limits and the gate, metrics. (Log lines go by COSYGATE_LOG_LEVEL.) The
served requests do the same work otherwise. For the benchmark alone: nothing of this can be set in CosyGate."""

import sys


class _Nothing:
    """A metric that counts nothing."""

    def __init__(self, *_args, **_options):
        pass

    def labels(self, *_args, **_options):
        return self

    def inc(self, *_args):
        pass

    dec = set = observe = inc

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_args, **_options: None


def _bare():
    import prometheus_client

    prometheus_client.Counter = prometheus_client.Gauge = prometheus_client.Histogram = _Nothing

    from cosygate.flows import gate
    from cosygate.model.principal import Principal

    somebody = Principal("bench")

    class Everybody:
        async def identify(self, _credential):
            return somebody

    class Open:
        standing = None

        async def begun(self):
            pass

        def close(self):
            pass

    opened = Open()

    async def chunk(*_args, **_options):
        return opened

    async def live(*_args, **_options):
        return None

    gate.Gate.chunk, gate.Gate.live = chunk, live

    from cosygate.api import callers

    async def identify(request, _callers, _scope, *_args, **_options):
        request.scope["caller"] = somebody
        return somebody

    callers.identify = identify


if "cosygate.gateway" in getattr(sys, "orig_argv", []):
    _bare()
