"""The doctor's look at what answers a recipe's requests: servers, vLLM's environment, functions in a model's place.

In: pools and the models they stand for. Out: findings, of the machine that this runs on. Asks each server once what
models it has, and nothing that costs; its key leaves the environment in that request's header alone. Starts no engine.
"""

import importlib
import importlib.metadata
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from marco_data.cluster.findings import FAIL, OK, WARN, Finding
from marco_data.generation.entry import Model
from marco_data.generation.pools import EndpointPool, Pool, ScriptedPool, VllmPool
from marco_data.redact import redacted

ANSWER_SECONDS = 15.0
MAX_BYTES = 4 << 20
IMPORT_SECONDS = 300.0
"""vLLM imports torch and compiles nothing: 7 s on a warm disk, minutes on a cold network one."""
SHOWN = 5
VERSIONS = """
import json, ray, vllm
print(json.dumps({"vllm": vllm.__version__, "ray": ray.__version__}))
"""


class _NoOtherPlace(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer like another: what goes along would send the key to a place nobody named."""

    def redirect_request(self, *_: Any) -> None:
        return None


def engines(pools: Mapping[str, Pool], models: Mapping[str, Model], gpus: int) -> Iterator[Finding]:
    """A finding for each pool. A machine with `gpus` 0 runs none of the engines that need them."""
    for name, pool in sorted(pools.items()):
        wanted = models.get(name)
        if isinstance(pool, EndpointPool):
            yield server(name, pool, pool.model or (wanted.model if wanted else None))
        elif isinstance(pool, ScriptedPool):
            yield _script(name, pool)
        elif isinstance(pool, VllmPool) and (gpus or not pool.gpus):
            yield environment(name, pool)


def server(name: str, pool: EndpointPool, model: str | None) -> Finding:
    """Whether an endpoint lets this machine in, and has the model."""
    check = f"endpoint {name}"
    headers = {"Accept": "application/json"}
    if pool.key is not None:
        key = os.environ.get(pool.key, "").strip()
        if not (key and key.isascii() and key.isprintable()):
            how = "is not set" if not key else "holds what cannot be a key"
            return Finding(check, FAIL, f"the variable `{pool.key}` {how}", f"set `{pool.key}` where the workers run")
        headers["Authorization"] = f"Bearer {key}"
    opener = urllib.request.build_opener(_NoOtherPlace)
    began = time.monotonic()
    try:
        request = urllib.request.Request(f"{pool.url}/models", headers=headers)
        with opener.open(request, timeout=ANSWER_SECONDS) as reply:
            said = reply.read(MAX_BYTES)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (401, 403):
            what = "refuses the key" if pool.key else "asks for a key"
            remedy = f"is `{pool.key}` the key of this server?" if pool.key else "`key` of the pool names its variable"
            return Finding(check, FAIL, f"{pool.url} {what} (HTTP {error.code})", remedy)
        level = FAIL if error.code >= 500 or 300 <= error.code < 400 else WARN
        remedy = "is `url` the address up to what is before `/chat/completions`?"
        return Finding(check, level, f"{pool.url} does not tell its models (HTTP {error.code})", remedy)
    except (OSError, ValueError, HTTPException) as error:  # no host, refused, no TLS, too slow, not HTTP
        reason = getattr(error, "reason", error)
        said_of = getattr(reason, "strerror", None) or str(reason) or type(error).__name__
        remedy = f"does the server run, and may this machine reach {urlsplit(pool.url).netloc}?"
        return Finding(check, FAIL, f"{pool.url} does not answer: {said_of}", remedy)
    there = _models_in(said)
    if there is None:
        remedy = "is `url` that of a server that speaks the OpenAI protocol?"
        return Finding(check, WARN, f"{pool.url} does not list its models", remedy)
    if model is not None and model not in there:
        listed = ", ".join(there[:SHOWN]) + (", ..." if len(there) > SHOWN else "") or "none"
        remedy = f"`model` of the pool is the server's own name for it; it has: {listed}"
        return Finding(check, FAIL, f"{pool.url} has no model `{model}`", remedy)
    has = f" and has `{model}`" if model else ""
    return Finding(check, OK, f"{pool.url} answers within {time.monotonic() - began:.2f} s{has}")


def _models_in(said: bytes) -> list[str] | None:
    try:
        return [str(one["id"]) for one in json.loads(said)["data"]]
    except (ValueError, TypeError, KeyError):
        return None


def environment(name: str, pool: VllmPool) -> Finding:
    """Whether the engine's own Python imports vLLM, and the same Ray as this one."""
    check, python = f"vllm {name}", pool.python or sys.executable
    needs = "`python` of the pool is an interpreter with vllm, ray of this version and marco-data (--no-deps)"
    try:
        done = subprocess.run(
            [python, "-c", VERSIONS],
            env=os.environ | {"VLLM_NO_USAGE_STATS": "1", **pool.environment},
            capture_output=True,
            text=True,
            timeout=IMPORT_SECONDS,
            check=False,
        )
        found = json.loads(done.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(check, FAIL, f"`{python}` cannot be run: {error}", needs)
    except (ValueError, IndexError):
        last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "it says nothing")
        return Finding(check, FAIL, f"`{python}` does not import vLLM: {redacted(last.strip())[:200]}", needs)
    mine = importlib.metadata.version("ray")
    if found["ray"] != mine:
        return Finding(check, FAIL, f"`{python}` has ray {found['ray']}, the cluster {mine}", needs)
    return Finding(check, OK, f"vLLM {found['vllm']} by `{python}`")


def _script(name: str, pool: ScriptedPool) -> Finding:
    module, _, function = pool.script.partition(":")
    try:
        getattr(importlib.import_module(module), function)
    except Exception as error:  # whatever the module itself raises
        says = redacted(f"{type(error).__name__}: {error}")
        return Finding(f"script {name}", FAIL, says, f"`{pool.script}` is package.module:function")
    return Finding(f"script {name}", OK, f"`{pool.script}` is there")
