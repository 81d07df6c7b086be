"""Foreign errors in one table: what Redis's refusals mean to whoever uses the journal."""

from __future__ import annotations

from redis import exceptions

from cosygate import errors

# By the word that Redis begins its refusals with. What is not in it (LOADING, READONLY, MASTERDOWN, CLUSTERDOWN,
# MISCONF, NOAUTH, …) means that the journal cannot be used now.
ERRORS: dict[str, type[errors.CosyGateError]] = {
    "OOM": errors.StorageFull,  # maxmemory is reached, and nothing may be evicted
}


def translated(error: Exception) -> errors.CosyGateError:
    """Ours for a foreign error. Details tell no address, no key, and nothing of what was written."""
    word = code_of(error)
    if ERRORS.get(word) is errors.StorageFull:
        return errors.StorageFull()
    return errors.Unavailable(f"the live journal's Redis failed ({word})")


def code_of(error: Exception) -> str:
    """Redis's own word, or what redis-py calls it."""
    words = str(getattr(error, "status_code", None) or error).split()  # it cuts the word off those that it knows
    known = isinstance(error, exceptions.ResponseError) and words and words[0].isalpha() and words[0].isupper()
    return words[0] if known else type(error).__name__
