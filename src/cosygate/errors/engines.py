"""Why an engine cannot take a call now."""

from __future__ import annotations

from cosygate.errors.families import Unavailable


class EngineUnavailable(Unavailable):
    """`gone`: its process is gone, which ends every call that it had. `why`: for the log alone."""

    code, title = "engine_unavailable", "No engine can take this now"
    gone = False
    why = ""


class EngineBusy(EngineUnavailable):
    code, title = "engine_busy", "Every engine slot is taken"


class EngineLeaving(EngineUnavailable):
    code, title = "engine_leaving", "The engine ended the call in order, as it does when it shuts down"
