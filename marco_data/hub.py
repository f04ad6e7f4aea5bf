"""Paths on Hugging Face's hub (`hf://`): which repository and revision one names, and the commit that is there now.

A branch moves while a build goes on for days, so what is listed is listed at a commit, and files of a commit do not
change: they are opened without asking for their size or version, each of which would be a listing of their folder.

In: a path. Out: its parts, or the same path at a commit. Reads no data.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import unquote

from marco_data.errors import RecipeError, RetryableError

_PATH = re.compile(
    r"hf://(?P<kind>(?:datasets|spaces|models)/)?(?P<repository>(?!(?:datasets|spaces|models|kernels|buckets)/)[^/@]+/[^/@]+)"
    r"(?:@(?P<revision>refs/(?:convert|pr)/[^/]+|[^/]+))?(?P<rest>/.*)?"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubPath:
    """`kind` is `datasets/`, `spaces/` or nothing, which is a model; `rest` begins with a slash or is empty."""

    kind: str
    repository: str
    revision: str | None
    rest: str

    @property
    def pinned(self) -> bool:
        """Whether it names a commit, so that what is there stays as it is."""
        return bool(self.revision and _COMMIT.fullmatch(self.revision))

    @property
    def place(self) -> str:
        """The repository at its revision, as a URL."""
        return f"hf://{self.kind}{self.repository}" + (f"@{self.revision}" if self.revision else "")

    def at(self, commit: str) -> str:
        return f"hf://{self.kind}{self.repository}@{commit}{self.rest}"


def hub_path(path: str) -> HubPath | None:
    """The parts of a path in a repository of a hub; None for any other, also in a bucket, which has no commits."""
    found = _PATH.fullmatch(path)
    return found and HubPath(found["kind"] or "", found["repository"], found["revision"], found["rest"] or "")


def is_pinned(path: str) -> bool:
    """Whether a path names a commit on a hub."""
    there = hub_path(path)
    return there is not None and there.pinned


def without_commit(path: str) -> str:
    """A path whose files a version tells apart wherever they lie: that of a commit without it."""
    there = hub_path(path)
    return f"hf://{there.kind}{there.repository}{there.rest}" if there is not None and there.pinned else path


def commits(paths: Collection[str]) -> list[str]:
    """The repositories at their commits that these paths are of, sorted."""
    found = [there for path in paths if (there := hub_path(path)) is not None and there.pinned]
    return sorted({there.place for there in found})


def is_busy(error: BaseException | None) -> bool:
    """Whether a hub answered, and that it cannot now: too many requests, or trouble of its own."""
    status = getattr(getattr(error, "response", None), "status_code", 0)
    return isinstance(status, int) and (status == 429 or status >= 500)


def pinned(path: str) -> str:
    """A path at the commit that its branch has now; one request, none where it names a commit or is on no hub.

    RecipeError where there is no such repository or revision, or it may not be seen; RetryableError where the hub does
    not answer.
    """
    there = hub_path(path)
    return path if there is None or there.pinned else there.at(commit_of(there))


def commit_of(there: HubPath) -> str:
    """The commit of a revision, by default of the repository's main branch. Raises as `pinned` does."""
    from huggingface_hub import HfApi  # half a second of imports
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    kind = there.kind.rstrip("s/") or "model"
    try:
        found = HfApi().repo_info(
            there.repository, repo_type=kind, revision=unquote(there.revision) if there.revision else None
        )
    except GatedRepoError as error:
        raise RecipeError(
            f"`{there.place}` asks for its terms to be accepted",
            hint="accept them on its page, and name a token of that account: `hf auth login`, or HF_TOKEN",
        ) from error
    except RevisionNotFoundError as error:
        raise RecipeError(f"`{there.place}`: there is no revision `{there.revision}`") from error
    except RepositoryNotFoundError as error:
        raise RecipeError(
            f"`{there.place}`: there is no {kind} `{there.repository}`, or it may not be seen from here",
            hint="look at its name; for a private one `hf auth login`, or HF_TOKEN",
        ) from error
    except HfHubHTTPError as error:
        raise RetryableError(f"`{there.place}`: {str(error).splitlines()[0]}") from error
    except Exception as error:  # its client raises its own kinds where nobody answers
        raise RetryableError(f"`{there.place}`: the hub does not answer: {error or type(error).__name__}") from error
    return str(found.sha)
