"""From a recipe to a job: the line that builds it, what its metadata says, and its copy in the root.

In: a checked recipe, its bundle and where it shall run. Out: an `Order`, and `runs/jobs/<name>/`, from which the same
job is sent again when its cluster is gone. Secrets are names of variables that the cluster's nodes have; a value is
refused wherever one could be given.
"""

import calendar
import getpass
import os
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

from marco_data import __version__
from marco_data.cluster.bundle import POOLS, RECIPE, Bundle, unpack
from marco_data.cluster.jobs import MARK, Order
from marco_data.errors import RecipeError
from marco_data.recipe import Recipe
from marco_data.storage import Storage, canonical_json

FOLDER = "runs/jobs"
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
WHEN = "%Y%m%dT%H%M%SZ"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def make_order(
    recipe: Recipe, bundle: Bundle, root: str, env: Sequence[str] = (), options: Mapping[str, object] | None = None
) -> Order:
    """The job that builds a bundle's recipe. `options` are further ones of `build-stage`; None leaves one out."""
    words = ["build-stage", str(recipe.stage), "--recipe", RECIPE, "--root", job_root(root)]
    given = {"pools": POOLS if bundle.pools else None, **(options or {})}
    if given.get("executor") != "local":
        given["address"] = "auto"
    for name, value in sorted(given.items()):
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    when = time.strftime(WHEN, time.gmtime())
    metadata = {
        MARK: __version__,
        "recipe": recipe.digest,
        "family": recipe.family,
        "stage": str(recipe.stage),
        "user": user_name(),
        "root": job_root(root),
    }
    name = f"{recipe.family}-{recipe.stage}-{recipe.digest[:6]}-{when}"
    names = check_env(env)
    return Order(name, entrypoint(words, names), metadata, names)


def user_name() -> str:
    """Who sends a job: a number where that has no name, as in a container that runs as whoever it is told."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def entrypoint(words: Sequence[str], env: Sequence[str] = ()) -> str:
    """The shell's line: it ends at once, and says which, where a variable that is needed is not set on the cluster."""
    needed = [
        f': "${{{name}:?is not set on the cluster: give it to the pods as a secret, or set it where Ray is started}}"'
        for name in env
    ]
    return " && ".join([*needed, shlex.join(["exec", "python", "-m", "marco_data.cli", *words])])


def again(order: Order) -> Order:
    """The same job under a new name: a cluster takes no name twice."""
    named = re.fullmatch(r"(.*)-(\d{8}T\d{6}Z)", order.name)
    when = time.time()
    if named:  # a job may be stopped and sent again within its first second
        when = max(when, calendar.timegm(time.strptime(named[2], WHEN)) + 1)
    name = f"{named[1] if named else order.name}-{time.strftime(WHEN, time.gmtime(when))}"
    return Order(name, order.entrypoint, {**order.metadata, "again": order.name}, order.env)


def check_env(names: Sequence[str]) -> tuple[str, ...]:
    """Names of variables; what looks like a value is refused, and not repeated."""
    for given in names:
        name, equals, _ = given.partition("=")
        if equals and VARIABLE.fullmatch(name):
            raise RecipeError(
                f"--env {name}=...: values do not travel with a job",
                hint=f"--env {name}, and set {name} where the cluster's nodes start: in Kubernetes a secret, "
                "`envFrom` of the pods",
            )
        if not VARIABLE.fullmatch(given):
            raise RecipeError("--env takes the NAME of a variable", hint="--env HF_TOKEN")
    return tuple(dict.fromkeys(names))


def job_root(root: str) -> str:
    """The root as a node is told it: a folder by its whole path, and an address without what nobody else may see."""
    if "://" not in root:
        return str(Path(root).absolute())
    parts = urlsplit(root)
    if parts.username or parts.password or parts.query:
        raise RecipeError(
            "the root of a job holds no name, password or query: they would be in the cluster's list of jobs",
            hint="set the storage's own variables on the nodes (AWS_ACCESS_KEY_ID, ...), or give their pods a role",
        )
    return root


def keep(storage: Storage, order: Order, bundle: Bundle) -> None:
    """Put a job beside what it builds, so that it can be sent again from anywhere."""
    storage.replace(f"{FOLDER}/{order.name}/bundle.zip", bundle.packed())
    storage.replace(f"{FOLDER}/{order.name}/job.json", canonical_json(asdict(order)))


def kept(storage: Storage, name: str) -> Order:
    if not NAME.fullmatch(name):
        raise RecipeError("that is not the name of a job", hint="marco-data jobs list --address URL")
    found = storage.read_json(f"{FOLDER}/{name}/job.json")
    if found is None:
        have = ", ".join(storage.names(FOLDER)[-5:])
        raise RecipeError(
            f"no job `{name}` is kept in `{storage.root}`",
            hint=f"kept there: {have}" if have else "`submit` the recipe again: what is built is not built twice",
        )
    return Order(found["name"], found["entrypoint"], found["metadata"], tuple(found["env"]))


def kept_bundle(storage: Storage, name: str, folder: Path) -> Bundle:
    """The files of a kept job, written into an empty folder."""
    data = storage.read(f"{FOLDER}/{name}/bundle.zip")
    if data is None:
        raise RecipeError(f"the files of the job `{name}` are gone from `{storage.root}`", hint="submit it again")
    unpack(data, folder)
    return Bundle(folder, (folder / POOLS).exists(), ())
