"""Which errors are no fault of a task's shard, but of what is around it: the file system, or the machine it is on.

In: what a task's work raised. Out: whether it ends the run, or may pass. Knows no tasks.
"""

import errno
import tempfile

from marco_data.errors import MachineError, RecipeError, RetryableError
from marco_data.storage import DISK_FULL, Storage

PASSING = frozenset(
    {
        *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EREMOTEIO),
        *(errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH),
    }
)
"""What NFS, Lustre and their like say while a server is away or changes."""


def ends_run(error: Exception, storage: Storage) -> bool:
    """Whether every other task would meet it too: a mistake in what was asked, or a full disk where the root lies."""
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return storage.local("") is not None
    return isinstance(error, RecipeError) and not isinstance(error, MachineError)


def may_pass(error: Exception) -> str | None:
    """What to say of an error that the same task may escape, later or on another machine; None for any other."""
    if isinstance(error, RetryableError | MachineError):
        return error.message
    if not isinstance(error, OSError):
        return None
    if error.errno in DISK_FULL:
        return f"no room for unfinished files in `{tempfile.gettempdir()}` ({error}): make some, or set TMPDIR"
    return f"{type(error).__name__}: {error}" if error.errno in PASSING else None
