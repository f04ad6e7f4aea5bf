"""The three ways a run can fail, named by what the runner does about them.

MarcoError
  RecipeError       the recipe, the command or the environment is wrong: nothing starts, exit 2
    MachineError    ... on this machine; in a task it is as a RetryableError, for other machines may do
  ShardError        this shard cannot be finished: the run goes on without it, exit 1 with a list
    DamagedFile     a file that the run has made is not what was written: it is made again
  RetryableError    trying the same thing again may succeed: the driver does, a few times
    StorageUnreachable   remote storage did not answer, however often it was asked
"""

from marco_data.redact import redacted


class MarcoError(Exception):
    """A failure with one sentence for the user and, where there is one, the remedy; neither tells a secret."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        self.message = redacted(message)
        self.hint = None if hint is None else redacted(hint)
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n\nhint: {self.hint}"

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments are lost by the default pickling of exceptions, and ray pickles them.
        return (_rebuild, (type(self), self.message, self.hint))


class RecipeError(MarcoError, ValueError):
    """The recipe, the command or the environment is wrong; nothing was started.

    Also a ValueError, so that pydantic validators may raise it and the loader can add file and line.
    """


class MachineError(RecipeError):
    """This machine is wrong, its clock for one: told as a RecipeError where a command starts; a task is tried again."""


class ShardError(MarcoError):
    """One shard cannot be finished; the others can."""


class RetryableError(MarcoError):
    """Something outside (storage, network, a dying node) failed; the same call may succeed later."""


class StorageUnreachable(RetryableError, OSError):
    """Remote storage failed or kept silent as long as one request is tried. Also an OSError, like a disk's."""


class DamagedFile(ShardError):
    """A file of the root is not as it was written; the run makes it again from what it was made of."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"`{path}` is damaged: {what}")
        self.path = path
        self.what = what

    def __reduce__(self) -> tuple[object, ...]:
        return (DamagedFile, (self.path, self.what))


def _rebuild(kind: type[MarcoError], message: str, hint: str | None) -> MarcoError:
    return kind(message, hint=hint)
