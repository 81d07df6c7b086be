"""Models that can be had: the catalogue of them, how one is fetched and unpacked, and the folder in which they lie.

Knows nothing of the gateway; `cosygate models` alone uses it, and engines read the folders that it fills.
"""

from __future__ import annotations


class ModelError(Exception):
    """Something did not work out; the message is a sentence for whoever called `cosygate models`."""


class Unfit(ModelError):
    """What was fetched or copied is not what it should be: to have it anew may help, to continue does not."""
