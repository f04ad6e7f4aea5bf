"""Pools: where the models of a recipe's generators run. A file of machines beside the recipe, never part of identity.

In: `pools.yaml`, {generator's name: pool}; its key `steps` is for `marco_data.places`. Out: a checked `Pool` for each.
Opens none and knows no recipe; a key is only ever named here, by the environment variable that holds it.
"""

import difflib
import json
import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from marco_data.errors import RecipeError
from marco_data.yaml_lines import explain, read_yaml

SENT = frozenset({"messages", "temperature", "top_p", "max_tokens", "stop", "seed", "response_format", "model"})
"""What a request itself says to a server, so that a pool may not."""

_NOT_SENT = frozenset({"stream", "stream_options", "n"})  # would change what comes back: an answer is one text, whole


STEPS = "steps"
"""The key that is no generator's name, but what the tasks of each step take of a cluster."""


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(
            "write the server's address as `http://host:port/v1`, up to what is before `/chat/completions`"
        )
    # Without the value: what is wrong with these is that they hold a secret.
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("an address holds no name, password or query: `key` names the variable that holds the secret")
    return value.rstrip("/").removesuffix("/chat/completions")


def _variable(value: str) -> str:
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", value):
        raise ValueError("is the NAME of an environment variable, in capitals, and never the key itself")
    return value


def _function(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", value):
        raise ValueError("write it as package.module:function")
    return value


def _no_secrets(value: dict[str, str]) -> dict[str, str]:
    for name in value:
        if re.search(r"(_KEY|_TOKEN|SECRET|PASSWORD)$", name.upper()):
            raise ValueError(f"`{name}` looks like a secret, which a file is no place for: set it on the machines")
    return value


Positive = Annotated[int, Field(ge=1)]
Money = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, allow_inf_nan=False)]

OWN_NAMES = {"CPU": "`cpus`", "memory": "`memory`", "GPU": "a pool's `gpus`", "object_store_memory": "nothing here"}
"""Resources that Ray takes under no such name, and the key that says them."""


def _others(resources: dict[str, float]) -> dict[str, float]:
    for name in sorted(resources.keys() & OWN_NAMES.keys()):
        raise ValueError(f"`{name}` is no name that a node was started with; {OWN_NAMES[name]} says it")
    return resources


Resources = Annotated[dict[str, Share], AfterValidator(_others)]
"""What else a node was started with, by name, and how much of it is taken."""


class Price(BaseModel):
    """USD per million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Money
    output: Money


class _Pool(BaseModel):
    """What every kind of pool may say of its cost and rate; only estimates and sums of cost read it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    price: Price | None = None
    gpu_price: Money | None = None  # USD per GPU-hour
    tokens_per_second: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None  # output, of one replica


class EndpointPool(_Pool):
    """A server that speaks the OpenAI chat protocol.

    Each worker process has `concurrency` requests under way at most, fewer while the server says it is too busy.
    `timeout_seconds` is for one try of one request, from connecting to the last byte. `model` is the server's name of
    the model where it is not the recipe's. `extra` is sent along with each request, `{top_k: 20}`; like everything
    here it is no identity, so that a changed one asks nothing again.
    """

    kind: Literal["endpoint"]
    url: Annotated[str, AfterValidator(_url)]
    key: Annotated[str, AfterValidator(_variable)] | None = None
    model: Annotated[str, Field(min_length=1)] | None = None
    concurrency: Positive = 64
    timeout_seconds: Annotated[float, Field(gt=0, le=86_400)] = 600.0
    retries: Annotated[int, Field(ge=0, le=100)] = 8  # about three minutes: a server that restarts loads its model
    extra: dict[str, Any] = {}

    @model_validator(mode="after")
    def _says_only_what_is_not_said(self) -> "EndpointPool":
        if taken := sorted(self.extra.keys() & (SENT | _NOT_SENT)):
            raise ValueError(f"`extra` cannot set `{taken[0]}`: it is the request's own, or of no use here")
        try:
            json.dumps(self.extra, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"`extra` is sent as JSON, which this is not: {error}") from None
        return self


class Replicas(BaseModel):
    """How many engines: the work begins with `min` of them, and more are asked for, up to `max`, as GPUs come."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min: Positive
    max: Positive

    @model_validator(mode="after")
    def _in_order(self) -> "Replicas":
        if self.max < self.min:
            raise ValueError(f"`max: {self.max}` is below `min: {self.min}`")
        return self


def _replicas(value: Any) -> Any:
    if isinstance(value, dict | Replicas):
        return value
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(
            "write how many engines, `4`, or how few will do to begin and how many are asked for: `{min: 2, max: 8}`"
        )
    return {"min": value, "max": value}


class VllmPool(_Pool):
    """vLLM engines in this run's own cluster: `replicas` of them, a number or {min, max}, each on `gpus` GPUs.

    `gpus` is the number that a replica's tensor parallel needs, a share of one (0.5) where two replicas fit, and 0
    where the engine is built for processors; `resources` are others that its node was started with. `shards_in_flight`
    is how many shards ask one engine at once. `python` is the interpreter of the engine's own environment, `engine` and
    `environment` are passed on to it.
    """

    kind: Literal["vllm"]
    replicas: Annotated[Replicas, BeforeValidator(_replicas)] = Replicas(min=1, max=1)
    tensor_parallel: Positive = 1
    gpus: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0  # that of `tensor_parallel`, where that is more
    resources: Resources = {}
    max_num_seqs: Positive = 256
    max_model_len: Positive | None = None  # the recipe's `context`
    python: str | None = None
    engine: dict[str, Any] = {}
    environment: Annotated[dict[str, str], AfterValidator(_no_secrets)] = {}
    shards_in_flight: Positive = 2

    @model_validator(mode="before")
    @classmethod
    def _gpus_by_tensor_parallel(cls, values: Any) -> Any:
        if isinstance(values, dict) and "gpus" not in values and isinstance(values.get("tensor_parallel"), int):
            return values | {"gpus": values["tensor_parallel"]}
        return values

    @model_validator(mode="after")
    def _gpus_fit(self) -> "VllmPool":
        if self.gpus > 1 and not math.isclose(self.gpus, round(self.gpus)):
            raise ValueError(f"`gpus: {self.gpus}` is neither a whole number nor a share of one GPU")
        if self.tensor_parallel > 1 and self.gpus not in (0, self.tensor_parallel):
            raise ValueError(f"`tensor_parallel: {self.tensor_parallel}` needs as many `gpus`, not {self.gpus:g}")
        named = {"tensor_parallel_size": "tensor_parallel", "max_num_seqs": "", "max_model_len": ""}
        for argument in named.keys() & self.engine.keys():
            raise ValueError(f"`engine.{argument}` has a key of its own here: `{named[argument] or argument}`")
        return self


class ScriptedPool(_Pool):
    """A Python function in the place of a model: `script: package.module:function`, after `delay` seconds each."""

    kind: Literal["scripted"]
    script: Annotated[str, AfterValidator(_function)]
    delay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


Pool = EndpointPool | VllmPool | ScriptedPool

_KINDS: dict[str, type[Pool]] = {"endpoint": EndpointPool, "vllm": VllmPool, "scripted": ScriptedPool}


def load_pools(path: Path) -> dict[str, Pool]:
    """{generator's name: its pool}. A RecipeError names file, line and key of all that is wrong with a pool."""
    values, lines = read_yaml(path, a="pools file", hint="give --pools FILE, {generator: {kind: endpoint, ...}}")
    return {str(name): _pool(str(name), value, path, lines) for name, value in values.items() if name != STEPS}


def _pool(name: str, value: Any, path: Path, lines: dict[tuple[Any, ...], int]) -> Pool:
    place = f"{path}:{lines[name,]}"
    kinds = ", ".join(_KINDS)
    if not isinstance(value, dict):
        raise RecipeError(f"{place}: the pool `{name}` is a mapping with a `kind`: {kinds}")
    if "kind" not in value:
        raise RecipeError(f"{place}: the key `{name}.kind` is missing; it is one of {kinds}")
    kind = value["kind"]
    if not isinstance(kind, str) or kind not in _KINDS:
        near = difflib.get_close_matches(str(kind), _KINDS, n=1)
        choice = f"did you mean `{near[0]}`?" if near else f"it is one of {kinds}"
        raise RecipeError(f"{path}:{lines[name, 'kind']}: `{name}.kind`: there is no kind `{kind}` of pool; {choice}")
    model = _KINDS[kind]
    try:
        return model.model_validate(value)
    except ValidationError as error:
        places = {key: (path, line) for key, line in lines.items()}
        raise explain(error, model, path, places, below=(name,)) from None
