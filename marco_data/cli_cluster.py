"""The commands of the service: `submit`, which sends a build to a Ray cluster, and `jobs`, which follow it."""

import json
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from marco_data.cli_build import Machines, plan_of, reachable, say
from marco_data.cli_recipe import file_of
from marco_data.cluster.bundle import make_bundle
from marco_data.cluster.job_logs import told
from marco_data.cluster.jobs import DONE, Cluster, Job
from marco_data.cluster.orders import again, job_root, keep, kept, kept_bundle, make_order
from marco_data.errors import MarcoError, RecipeError
from marco_data.options import ExecutorName, Json, MaxCost, MaxGpuHours, Pools, Root, Workers
from marco_data.plan import SKIP, plan_nodes, plan_sources
from marco_data.recipe import Recipe, load_recipe
from marco_data.report import program
from marco_data.stage import find_stage
from marco_data.storage import Storage
from marco_data.why import harmless

jobs = typer.Typer(no_args_is_help=True, help="List, follow, stop and resume the builds that `submit` has sent.")

JobAddress = Annotated[
    str | None,
    typer.Option("--address", help="The cluster's job server, http://HEAD:8265; default: RAY_API_SERVER_ADDRESS."),
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended; exit 1 if it failed.")]
Name = Annotated[str, typer.Argument(metavar="JOB", help="A job's name, as `submit` and `jobs list` print it.")]
JobRoot = Annotated[str | None, typer.Option("--root", help="The job's root; default: what the cluster says it is.")]


def submit(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or FAMILY/STAGE: sample/3.")],
    address: JobAddress = None,
    root: Root = "./marco-out",
    pools: Pools = None,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", help="NAME of a variable that the job needs and its nodes have (repeatable)."),
    ] = None,
    workers: Workers = None,
    max_gpu_hours: MaxGpuHours = None,
    max_cost: MaxCost = None,
    executor: ExecutorName = "ray",
    follow: Follow = False,
    json_output: Json = False,
) -> None:
    """Send a build to a Ray cluster as a job, with its prompts and modules; says so where nothing is left to build.

    Example:  marco-data submit my-recipe.yaml --address http://head:8265 --root s3://bucket/marco --follow
    """
    if executor not in ("ray", "local"):
        raise RecipeError(f"no executor `{executor}`", hint="--executor ray or --executor local")
    resolved = load_recipe(file_of(recipe))
    storage = Storage(job_root(root))
    options = {
        "workers": workers,
        "max_gpu_hours": max_gpu_hours,
        "max_cost": max_cost,
        "executor": None if executor == "ray" else executor,
    }
    with tempfile.TemporaryDirectory() as folder:
        bundle = make_bundle(resolved, pools, Path(folder))
        order = make_order(resolved, bundle, root, env or (), options)
        machines = Machines(pools=pools, max_gpu_hours=max_gpu_hours, max_cost=max_cost)
        if folder_built := _built(resolved, machines, storage):
            say(f"nothing to do: {resolved.family} stage {resolved.stage} is built, in {folder_built}")
            _tell_sent(None, "built", json_output)
            return
        cluster = Cluster(address)
        if running := _running(cluster, order.metadata):
            say(f"nothing sent: {running.name} is building this recipe in this root")
            _tell_sent(running.name, "running", json_output)
        else:
            for path in (*bundle.elsewhere, *([] if "://" in storage.root else [storage.root])):
                say(f"note: every node has to see `{path}`")
            try:
                keep(storage, order, bundle)
            except Exception as error:  # each store's library raises its own
                say(f"note: the root cannot be written from here, so `jobs resume` will not know this job: {error}")
            cluster.send(order, bundle.folder)
            _tell_sent(order.name, "sent", json_output)
    name = running.name if running else order.name
    if follow:
        raise typer.Exit(_follow(cluster, name))
    say(f"to follow it: {program()} jobs logs {name} --follow --address {cluster.address}")


def _tell_sent(name: str | None, what: str, json_output: bool) -> None:
    if json_output:
        print(json.dumps({"job": name, "is": what}))
    elif name is not None:
        print(name)


def _built(recipe: Recipe, machines: Machines, storage: Storage) -> str | None:
    """The folder of the stage where nothing of it is left to do, as far as can be told from here.

    RecipeError where pools or limits are wrong, which the job would end with too.
    """
    plan = plan_of(recipe)
    reachable(plan, machines)
    try:
        dataset = reachable(plan, machines, storage)
        before = find_stage(storage, recipe.family, recipe.stage)
        if before is None or not before.complete:
            return None
        sources = plan_sources(dataset, recipe.part_of, storage)
        nodes = plan_nodes(dataset, storage, before, all(s.problem is None for s in sources))
    except Exception as error:  # each store's library raises its own where the rights are the nodes' alone
        say(f"note: what is built cannot be told from here ({error}); the job itself builds only what is not")
        return None
    here = {row.node: row.folder for row in nodes}
    same = all(entry["folder"] == here.get(name) for name, entry in before.nodes.items())
    return before.folder if same and all(row.status == SKIP for row in nodes) else None


def _running(cluster: Cluster, metadata: dict[str, str]) -> Job | None:
    for job in cluster.jobs():
        if job.live and all(job.metadata.get(key) == metadata[key] for key in ("recipe", "root")):
            return job
    return None


@jobs.command("list")
def list_jobs(address: JobAddress = None, json_output: Json = False) -> None:
    """The jobs that a cluster knows, the newest first.

    Example:  marco-data jobs list --address http://head:8265
    """
    for job in Cluster(address).jobs():
        if json_output:
            print(json.dumps(asdict(job), ensure_ascii=False))
        else:
            of = job.metadata
            print(f"{job.status:9} {job.name}  {of.get('user', '?')}  {_took(job)}  {of.get('root', '')}")


@jobs.command("status")
def status(name: Name, address: JobAddress = None, json_output: Json = False) -> None:
    """How a job is; exit 1 where it failed or was stopped.

    Example:  marco-data jobs status sample-3-5e0c1d-20260101T120000Z --address http://head:8265
    """
    job = _found(Cluster(address), name)
    if json_output:
        print(json.dumps(asdict(job), ensure_ascii=False))
    else:
        print(f"{job.name}: {job.status}, {_took(job)}")
        for key, value in sorted(job.metadata.items()):
            print(f"  {key}: {value}")
        if job.message:
            print(harmless(f"  {job.message.strip()}"))
    raise typer.Exit(0 if job.live or job.status == DONE else 1)


@jobs.command("logs")
def logs(name: Name, address: JobAddress = None, root: JobRoot = None, follow: Follow = False) -> None:
    """What a job has said; with --root, or where its cluster has lost it, how its tasks ended, from the root.

    Example:  marco-data jobs logs sample-3-5e0c1d-20260101T120000Z --follow --address http://head:8265
    """
    if follow and root is not None:
        raise RecipeError(
            "--follow asks the cluster, and --root reads what a job has left: one of them",
            hint="to follow a job that another cluster took on, `jobs list` there has its name",
        )
    if follow:
        raise typer.Exit(_follow(Cluster(address), name))
    if root is None:
        cluster = Cluster(address)
        job = cluster.job(name)
        if job is None:
            raise RecipeError(
                f"the cluster at {cluster.address} knows no job `{name}`",
                hint="it may be of before the head was started again: --root URI reads what is left under runs/",
            )
        try:
            sys.stdout.write(cluster.logs(name))
            return
        except MarcoError as error:
            say(f"its own words are lost ({error.message}); from its root:")
            root = job.metadata.get("root", "")
    lines = list(told(Storage(root), name))
    if not lines:
        raise MarcoError(f"`{root}` has no ends of tasks of a job `{name}`")
    print(harmless("\n".join(lines)))


@jobs.command("stop")
def stop(name: Name, address: JobAddress = None) -> None:
    """End a job; what it has built stays, and `resume` goes on from there.

    Example:  marco-data jobs stop sample-3-5e0c1d-20260101T120000Z --address http://head:8265
    """
    cluster = Cluster(address)
    job = _found(cluster, name)
    if not job.live or not cluster.stop(name):
        say(f"{name} had ended: {job.status}")
        return
    say(f"{name} is told to stop")


@jobs.command("resume")
def resume(name: Name, address: JobAddress = None, root: JobRoot = None, follow: Follow = False) -> None:
    """Send a job that ended once more, from its copy in the root: also to another cluster than that it was on.

    Example:  marco-data jobs resume sample-3-5e0c1d-20260101T120000Z --address http://head:8265 --root s3://bucket/marco
    """
    cluster = Cluster(address)
    before = cluster.job(name)
    if before is not None and before.live:
        raise RecipeError(f"{name} is {before.status}", hint="it needs no resuming; `jobs stop` ends it")
    place = root or (before.metadata.get("root") if before else None)
    if place is None:
        raise RecipeError(f"the cluster at {cluster.address} knows no job `{name}`", hint="give its --root")
    storage = Storage(place)
    with tempfile.TemporaryDirectory() as folder:
        bundle = kept_bundle(storage, name, Path(folder))
        order = again(kept(storage, name))
        running = _running(cluster, order.metadata)
        if running:
            say(f"nothing sent: {running.name} is building this recipe in this root")
        else:
            keep(storage, order, bundle)
            cluster.send(order, bundle.folder)
    sent = running.name if running else order.name
    print(sent)
    if follow:
        raise typer.Exit(_follow(cluster, sent))


def _found(cluster: Cluster, name: str) -> Job:
    job = cluster.job(name)
    if job is None:
        known = ", ".join(job.name for job in cluster.jobs()[:5]) or "none"
        raise RecipeError(f"the cluster at {cluster.address} knows no job `{name}`", hint=f"it knows: {known}")
    return job


def _follow(cluster: Cluster, name: str) -> int:
    """Print what a job says until it has ended; the exit code. Ctrl-C stops the following, not the job."""
    with suppress(KeyboardInterrupt):
        _found(cluster, name)
        for words in cluster.follow(name):
            sys.stdout.write(words)
            sys.stdout.flush()
        job = _found(cluster, name)
        why = job.message.strip().partition("\n")[0].partition(", last available logs")[0]  # they have just been told
        say(f"{name}: {job.status}" + (f": {why}" if why else ""))
        return 0 if job.status == DONE else 1
    say(f"{name} goes on; to end it: {program()} jobs stop {name} --address {cluster.address}")
    return 0


def _took(job: Job) -> str:
    if job.started is None:
        return "not started"
    seconds = (job.ended or time.time()) - job.started
    return f"{'since' if job.live else 'took'} {seconds:,.0f} s"
