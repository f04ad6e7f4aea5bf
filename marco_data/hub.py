"""Paths on Hugging Face's hub (`hf://`): which repository and revision one names, and the commit that is there now.

A branch moves while a build goes on for days, so what is listed is listed at a commit, and files of a commit do not
change: they are opened without asking for their size or version, each of which would be a listing of their folder.

In: a path. Out: its parts, or the same path at a commit. Reads no data.
"""

import re
from collections.abc import Collection, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from marco_data.errors import RecipeError, RetryableError

_PATH = re.compile(
    r"hf://(?P<kind>(?:datasets|spaces|models)/)?(?P<repository>(?!(?:datasets|spaces|models|kernels|buckets)/)[^/@]+/[^/@]+)"
    r"(?:@(?P<revision>refs/(?:convert|pr)/[^/]+|[^/]+))?(?P<rest>/.*)?"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
ONLY_COMMIT: Any = ["sha"]
"""Of what a hub tells of a repository: else each of its files is in the answer."""


@dataclass(frozen=True)
class HubPath:
    """`kind` is `datasets/`, `spaces/` or nothing, which is a model (`models/` is left out, as the hub's library does);
    `rest` begins with a slash or is empty."""

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
    kind = "" if found and found["kind"] == "models/" else (found and found["kind"]) or ""
    return found and HubPath(kind, found["repository"], found["revision"], found["rest"] or "")


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
    return status_of(error) == 429 or status_of(error) >= 500


def status_of(error: BaseException | None) -> int:
    """The HTTP status that an error of the hub's library came with; 0 where it came with none."""
    status = getattr(getattr(error, "response", None), "status_code", 0)
    return status if isinstance(status, int) else 0


def refused(error: BaseException, path: str) -> RecipeError | None:
    """What to tell where a hub does not let this user read at `path`, which no later try changes; else None."""
    there = hub_path(path)
    if there is None or status_of(error) not in (401, 403):
        return None
    if type(error).__name__ == "GatedRepoError":
        return RecipeError(
            f"`{there.place}` asks for its terms to be accepted",
            hint="accept them on its page, and name a token of that account: `hf auth login`, or HF_TOKEN",
        )
    return RecipeError(
        f"`{there.place}` may not be read with the token that is used, if any (HTTP {status_of(error)})",
        hint="look at HF_TOKEN, or `hf auth login` anew",
    )


def pinned(path: str, commits: MutableMapping[str, str]) -> str:
    """A path at the commit that its branch has now; the same path where it names a commit or is in no repository.

    `commits` holds what was asked before: the commit of each `place`, for all paths of one build. RecipeError where
    there is no such repository or revision, or it may not be read; RetryableError where the hub does not answer.
    """
    there = hub_path(path)
    if there is None or there.pinned:
        return path
    if there.place not in commits:
        commits[there.place] = commit_of(there)
    return there.at(commits[there.place])


def commit_of(there: HubPath) -> str:
    """The commit of a revision, by default of the repository's main branch; one request. Raises as `pinned` does."""
    from huggingface_hub import HfApi, constants  # half a second of imports
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        found = HfApi().repo_info(
            there.repository,
            repo_type=there.kind.rstrip("s/") or "model",
            revision=unquote(there.revision) if there.revision else None,
            expand=ONLY_COMMIT,
            timeout=constants.HF_HUB_ETAG_TIMEOUT,
        )
    except HFValidationError as error:
        raise RecipeError(
            f"`{there.place}`: no repository has such a name",
            hint="hf://datasets/ORG/NAME/PATH; patterns and {language} may stand in PATH only",
        ) from error
    except RevisionNotFoundError as error:
        raise RecipeError(f"`{there.place}`: there is no revision `{there.revision}`") from error
    except Exception as error:  # its client raises its own kinds where nobody answers
        if told := refused(error, there.place):
            raise told from error
        if isinstance(error, RepositoryNotFoundError):
            raise RecipeError(
                f"`{there.place}`: there is no {there.kind.rstrip('s/') or 'model'} `{there.repository}`, or it may "
                "not be seen from here",
                hint="look at its name; for a private one `hf auth login`, or HF_TOKEN",
            ) from error
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        what = said if status_of(error) else f"the hub does not answer: {said}"
        raise RetryableError(f"`{there.place}`: {what}") from error
    return str(found.sha)
