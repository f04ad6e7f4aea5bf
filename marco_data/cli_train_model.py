"""The command `model-info`: what a model's sizes come to, before any weight or GPU is there."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from marco_data.options import Json
from marco_data.train.config import STATE_BYTES, config_named


def model_info(
    name: Annotated[str, typer.Argument(help="A model's name, e.g. marco-mini.")],
    seq: Annotated[int, typer.Option(min=1, help="Tokens of a sequence.")] = 4096,
    micro_batch: Annotated[int, typer.Option(min=1, help="Sequences of a micro-batch on one GPU.")] = 1,
    dp: Annotated[int, typer.Option(min=1, help="GPUs in all, which FSDP shards over.")] = 8,
    ep: Annotated[int, typer.Option(min=1, help="GPUs that share out the experts.")] = 1,
    recompute: Annotated[bool, typer.Option(help="Compute activations again in the backward pass.")] = True,
    json_output: Json = False,
) -> None:
    """Print parameters, FLOPs per token and memory per GPU of a model, by arithmetic.

    Example:  marco-data model-info marco-mini --ep 8 --json
    """
    config = config_named(name)
    parts = config.memory_parts(dp=dp, ep=ep, tokens=seq * micro_batch, recompute=recompute)
    rows: dict[str, object] = {
        "name": name,
        **asdict(config),
        "parameters": config.parameters(),
        "active_parameters": config.active_parameters(),
        "expert_parameters": config.expert_parameters(),
        "seq": seq,
        "flops_per_token": config.flops_per_token(seq),
        "micro_batch": micro_batch,
        "dp": dp,
        "ep": ep,
        "recompute": recompute,
        "state_bytes_per_parameter": STATE_BYTES,
        "memory_bytes_per_gpu": sum(parts.values()),
        **{f"memory_bytes_{part}": value for part, value in parts.items()},
    }
    if json_output:
        print(json.dumps(rows))
        return
    for key, value in rows.items():
        print(f"{key:32}{value:,}" if isinstance(value, int) and not isinstance(value, bool) else f"{key:32}{value}")
