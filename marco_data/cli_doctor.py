"""The command `doctor`: whether a build has what it needs, here and on a cluster, before it is started."""

import json
import secrets
import shlex
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from marco_data.cli_build import plan_of, say
from marco_data.cli_recipe import file_of
from marco_data.cluster.bundle import POOLS, RECIPE, make_bundle
from marco_data.cluster.doctor import look, version, versions
from marco_data.cluster.findings import CLUSTER, FAIL, HEAD, HERE, OK, WARN, Finding
from marco_data.cluster.jobs import DONE, MARK, Cluster, Order
from marco_data.cluster.orders import check_env, entrypoint, job_root
from marco_data.errors import MarcoError
from marco_data.generation.pools import load_pools
from marco_data.options import Json, Pools, Root
from marco_data.recipe import Recipe, load_recipe
from marco_data.storage import Storage
from marco_data.why import harmless


def doctor(
    recipe: Annotated[str | None, typer.Option(help="Look at this recipe's needs too: a file, or sample/3.")] = None,
    root: Root = "./marco-out",
    address: Annotated[
        str | None, typer.Option(help="Also a cluster: its job server, http://HEAD:8265; in a job of it, `auto`.")
    ] = None,
    pools: Pools = None,
    env: Annotated[
        list[str] | None, typer.Option("--env", help="NAME of a variable that the nodes need (repeatable).")
    ] = None,
    json_output: Json = False,
) -> None:
    """Check versions, storage rights, models, GPUs, clocks, disk and the head of each source; exit 1 on fail.

    Example:  marco-data doctor --recipe sample/3
    """
    resolved = None if recipe is None else load_recipe(file_of(recipe))
    storage = Storage(job_root(root) if address else root)
    failed = 0
    nodes: Counter[str] = Counter()  # that have nothing to fix: of a thousand nobody reads a line each
    for finding in _findings(resolved, storage, address, pools, check_env(env or ())):
        failed += finding.level == FAIL
        if json_output:
            print(json.dumps(asdict(finding), ensure_ascii=False), flush=True)
        elif finding.level == OK and finding.where not in (HERE, HEAD, CLUSTER):
            nodes[finding.check] += 1
        else:
            place = "" if finding.where == HERE else f" [{finding.where}]"
            print(harmless(f"{finding.level:4}  {finding.check}{place}: {finding.says}"))
            if finding.remedy:
                print(harmless(f"      to fix it: {finding.remedy}"))
    for check, number in nodes.items():
        print(f"{OK:4}  {check} [{number:,} {'node' if number == 1 else 'nodes'}]")
    raise typer.Exit(1 if failed else 0)


def _findings(
    recipe: Recipe | None, storage: Storage, address: str | None, pools: Path | None, env: tuple[str, ...]
) -> Iterator[Finding]:
    dataset = None if recipe is None else plan_of(recipe)
    machines = load_pools(pools) if pools else {}
    answers = {} if recipe is None else recipe.generators
    yield from look(storage, dataset, machines if address is None else None, answers)
    if address is None:
        return
    if address.startswith(("http://", "https://")):
        try:
            yield from _of_cluster(Cluster(address), recipe, storage, pools, env)
        except MarcoError as error:
            yield Finding("cluster", FAIL, error.message, error.hint or "", CLUSTER)
    else:
        from marco_data.cluster.node_checks import look_at_nodes

        yield from look_at_nodes(address, storage, machines, answers)


def _of_cluster(
    cluster: Cluster, recipe: Recipe | None, storage: Storage, pools: Path | None, env: tuple[str, ...]
) -> Iterator[Finding]:
    """What a doctor finds that is sent there as a job."""
    words = ["doctor", "--root", storage.root, "--address", "auto", "--json"]
    with tempfile.TemporaryDirectory() as folder:
        if recipe is not None:
            bundle = make_bundle(recipe, pools, Path(folder))
            words += ["--recipe", RECIPE, *(["--pools", POOLS] if bundle.pools else [])]
        # Of a second there may be two, and a cluster takes no name twice.
        name = f"doctor-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(4)}"
        order = Order(name, entrypoint(words, env), {MARK: versions()["marco-data"], "root": storage.root}, env)
        cluster.send(order, Path(folder))
        say(f"the job {shlex.quote(name)} looks at the cluster")
        words_there = "".join(cluster.follow(name))
    found, other = [], []
    for line in words_there.splitlines():
        try:
            found.append(Finding(**json.loads(line)))
        except (ValueError, TypeError):
            other.append(line)
    for finding in found:
        where = HEAD if finding.where == HERE else finding.where
        yield replace(finding, where=where)
    job = cluster.job(name)
    # Exit 1 is what a doctor ends with that found something; one that ends so without has not looked at everything.
    if not any(finding.level == FAIL for finding in found) and (not found or job is None or job.status != DONE):
        last = next((line for line in reversed(other) if line.strip()), (job and job.message) or "it said nothing")
        yield Finding("cluster", FAIL, last.strip()[:300], f"marco-data jobs logs {name}", HEAD)
    there = next((f.says for f in found if f.check == "versions" and f.where == HERE), None)
    mine = version().says
    if there is not None and there != mine:
        said = f"this machine has {mine}; the cluster {there}"
        yield Finding("versions", WARN, said, "equal versions, or `plan` here foretells other steps than run there")
    elif there is not None:
        yield Finding("versions", OK, "the cluster's are this machine's", where=CLUSTER)
