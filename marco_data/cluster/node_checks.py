"""The doctor's look at every node of a Ray cluster: versions, clock, disk, GPUs, and the root as that node sees it.

In: a cluster's address as Ray itself takes it, and a root. Out: findings, each with its node. Knows no recipe.
"""

import logging
import math
import platform
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from marco_data.cluster.doctor import disk, gpus, skew, storage_rights, versions
from marco_data.cluster.engine_checks import engines
from marco_data.cluster.findings import CLUSTER, FAIL, OK, WARN, Finding
from marco_data.cluster.ray_environment import set_ray_environment
from marco_data.errors import RecipeError
from marco_data.generation.entry import Model
from marco_data.generation.pools import Pool
from marco_data.storage import Storage

WAIT_SECONDS = 600.0
"""For a node's answer: its first worker process may have to start, and vLLM to be imported from a cold disk."""


def look_at_nodes(
    address: str, storage: Storage, pools: Mapping[str, Pool], answers: Mapping[str, Model]
) -> Iterator[Finding]:
    """Every node's findings, against this process's own versions and clock."""
    set_ray_environment()
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        raise RecipeError(
            f"no Ray cluster at `{address}`: {str(error).splitlines()[0]}",
            hint="--address http://HEAD:8265 asks a cluster's job server",
        ) from error
    try:
        alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        remote = ray.remote(max_retries=0, num_cpus=0)(_facts)
        asked = {}
        sent = time.time()  # a node looks at its clock at any time from here to its answer
        for node in alive:
            here = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
            asked[node["NodeManagerHostname"], node["NodeID"][:8]] = remote.options(scheduling_strategy=here).remote(
                storage, pools, answers
            )
        there = 0.0
        for (host, number), answer in asked.items():
            name = f"{host} ({number})"
            try:
                facts = ray.get(answer, timeout=WAIT_SECONDS)
            except (ray.exceptions.RayError, TimeoutError) as error:
                says = f"does not answer: {str(error).strip().splitlines()[0][:200]}"
                yield Finding("node", FAIL, says, "its Ray log says why: /tmp/ray/session_latest/logs", name)
                continue
            there += facts["gpus"]
            for finding in _of_node(facts, sent, time.time()):
                yield replace(finding, where=name)
        wanted = math.fsum(pool.replicas.min * pool.gpus for pool in pools.values() if pool.kind == "vllm")
        remedy = "" if there >= wanted else "nodes with GPUs, or fewer `replicas`; an autoscaler may bring them later"
        yield Finding(
            "GPUs", OK if not remedy else WARN, f"{there:g} in all; pools ask for {wanted:g}", remedy, CLUSTER
        )
    finally:
        ray.shutdown()


def _of_node(facts: dict[str, Any], sent: float, came: float) -> Iterator[Finding]:
    here = {"python": platform.python_version(), **versions()}
    other = {k: (facts["versions"].get(k), v) for k, v in here.items() if facts["versions"].get(k) != v}
    if other:
        said = ", ".join(f"{name} {there or 'missing'} (driver: {mine})" for name, (there, mine) in other.items())
        yield Finding("versions", FAIL, said, "install the same constraints file on every node")
    else:
        yield Finding("versions", OK, "are the driver's")
    # A node that waited in line looked at its clock some time between.
    behind = min(0.0, facts["at"] - sent) + max(0.0, facts["at"] - came)
    yield skew("clock", behind, "its")
    yield from facts["findings"]


def _facts(storage: Storage, pools: Mapping[str, Pool], answers: Mapping[str, Model]) -> dict[str, Any]:
    here = gpus()
    return {
        "versions": {"python": platform.python_version(), **versions()},
        "gpus": here,
        "findings": [*disk(storage), *storage_rights(storage), *engines(pools, answers, here)],
        "at": time.time(),
    }
