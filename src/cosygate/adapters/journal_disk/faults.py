"""Foreign errors in one table: what a failed system call means to whoever uses the journal."""

from __future__ import annotations

import errno

from cosygate import errors

# What is not in it means that the storage cannot be used now.
ERRORS: dict[int, type[errors.CosyGateError]] = {
    errno.ENOSPC: errors.StorageFull,
    errno.EDQUOT: errors.StorageFull,
    errno.EFBIG: errors.StorageFull,
    errno.EIO: errors.Unavailable,
    errno.EROFS: errors.Unavailable,
    errno.EACCES: errors.Unavailable,
    errno.EPERM: errors.Unavailable,
    errno.EMFILE: errors.Unavailable,
    errno.ENFILE: errors.Unavailable,
    errno.ENOMEM: errors.Unavailable,
}


def translated(error: OSError) -> errors.CosyGateError:
    """Ours for a foreign error; the detail tells no path."""
    kind = ERRORS.get(error.errno or 0, errors.Unavailable)
    if kind is errors.StorageFull:
        return errors.StorageFull()
    return kind(f"the journal's storage failed ({errno.errorcode.get(error.errno or 0, 'unknown')})")
