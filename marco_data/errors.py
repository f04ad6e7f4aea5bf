"""The three ways a run can fail, named by what the runner does about them.

MarcoError
  RecipeError       the recipe, the command or the environment is wrong: nothing starts, exit 2
  ShardError        this shard cannot be finished: the run goes on without it, exit 1 with a list
  RetryableError    trying the same thing again may succeed: the driver does, a few times
"""


class MarcoError(Exception):
    """A failure with one sentence for the user and, where there is one, the remedy."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n\nhint: {self.hint}"

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments are lost by the default pickling of exceptions, and ray pickles them.
        return (_rebuild, (type(self), self.message, self.hint))


class RecipeError(MarcoError, ValueError):
    """The recipe, the command or the environment is wrong; nothing was started.

    Also a ValueError, so that pydantic validators may raise it and the loader can add file and line.
    """


class ShardError(MarcoError):
    """One shard cannot be finished; the others can."""


class RetryableError(MarcoError):
    """Something outside (storage, network, a dying node) failed; the same call may succeed later."""


def _rebuild(kind: type[MarcoError], message: str, hint: str | None) -> MarcoError:
    return kind(message, hint=hint)
