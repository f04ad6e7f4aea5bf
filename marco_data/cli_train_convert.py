"""The commands `upcycle` and `export`: a dense model made a mixture of experts, and checkpoints made folders that
transformers and vLLM load, and back.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from marco_data.cli_build import say
from marco_data.errors import RecipeError
from marco_data.options import Json
from marco_data.train.config import ModelConfig
from marco_data.train.hub import config_of, read_config
from marco_data.train.slices import cut, settings_of

Dtype = Annotated[str | None, typer.Option(help="bfloat16, float16 or float32.")]


def upcycle(
    source: Annotated[Path, typer.Option("--from", help="A Hugging Face folder of a dense Qwen3 model.")],
    target: Annotated[str, typer.Option("--to", help="A model's name, e.g. marco-nano, or a config.json.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    scale: Annotated[str, typer.Option(help="`recipe` as published, or `exact`, which keeps the function.")] = "recipe",
    router: Annotated[str, typer.Option(help="`virtual_group` or `random`.")] = "virtual_group",
    drop: Annotated[float, typer.Option(min=0, max=1, help="Share of each expert's neurons drawn anew.")] = 0.5,
    seed: Annotated[int, typer.Option(min=0, help="Of the router and of what is drawn anew.")] = 0,
    dtype: Dtype = None,
    tokens: Annotated[
        str | None, typer.Option(help="Compare the two models on this shard (PREFIX of .bin and .idx), not at random.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Make a mixture of experts of a dense model, and print how far its predictions are from the dense model's.

    Example:  marco-data upcycle --from Qwen3-0.6B-Base --to marco-nano --out nano-start
    """
    sparse = config_of(target)
    dense = read_config(source / "config.json")
    settings = settings_of(scale, router, drop, seed)
    slices = cut(dense, sparse, settings.router)
    try:
        from marco_data.train.upcycle import probe_tokens, shard_tokens
        from marco_data.train.upcycle import upcycle as convert
        from marco_data.train.weights import HubFolder, dtype_named
    except ImportError as error:
        raise _no_torch(error) from error
    precision = None if dtype is None else dtype_named(dtype)
    probe = probe_tokens(sparse.vocab_size) if tokens is None else shard_tokens(tokens, sparse.vocab_size)
    say(f"{slices.slices} slices x {slices.copies} copies = {sparse.num_experts} experts, {slices.width} wide")
    found = convert(HubFolder(source), sparse, out, settings, dtype=precision, tokens=probe, told=say)
    if json_output:
        sizes: dict[str, Any] = {"slices": slices.slices, "copies": slices.copies, "parameters": sparse.parameters()}
        print(json.dumps({"out": str(out), **sizes, **asdict(settings), **asdict(found)}))
        return
    print(f"{out}: {sparse.parameters():,} parameters, {sparse.active_parameters():,} active")
    where = "random tokens" if tokens is None else f"tokens of {tokens}"
    print(f"against the dense model, on {found.predictions:,} {where}:")
    print(f"  KL divergence        {found.kl:.3g} nats")
    print(f"  same first choice    {found.same_first_choice:.1%}")
    print(f"  largest difference   {found.largest_difference:.3g} of a logit")


def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint's folder; with --from-hf, a Hugging Face folder.")],
    out: Annotated[Path, typer.Option("--to", help="The folder to write.")],
    tokenizer: Annotated[Path | None, typer.Option(help="Folder to copy the tokenizer from.")] = None,
    dtype: Dtype = None,
    from_hf: Annotated[bool, typer.Option("--from-hf", help="The other way: a checkpoint of weights alone.")] = False,
) -> None:
    """Write a checkpoint as a Hugging Face folder that transformers and vLLM load.

    Example:  marco-data export runs/mini/iteration-1000 --to mini --tokenizer Qwen3-0.6B-Base
    """
    dtype = dtype or ("float32" if from_hf else "bfloat16")
    try:
        from marco_data.train.export import CheckpointFolder, import_from_hub
        from marco_data.train.export import export as convert
        from marco_data.train.weights import HubFolder, dtype_named
    except ImportError as error:
        raise _no_torch(error) from error
    if from_hf:
        if tokenizer is not None:
            raise RecipeError("`--tokenizer` has no meaning with `--from-hf`", hint="the folder's own files are copied")
        model = HubFolder(checkpoint)
        config: ModelConfig = model.config
        copied = import_from_hub(model, out, dtype=dtype_named(dtype))
    else:
        trained = CheckpointFolder(checkpoint)
        config = trained.config
        copied = convert(trained, out, dtype=dtype_named(dtype), tokenizer=tokenizer or checkpoint, told=say)
    if not copied:
        say(f"`{out}` has no tokenizer: " + ("the model had none" if from_hf else "name a folder with --tokenizer"))
    print(f"{out}: {config.parameters():,} parameters in {dtype}")


def _no_torch(error: ImportError) -> RecipeError:
    missing = (error.name or "torch").partition(".")[0]
    return RecipeError(f"the trainer needs {missing}", hint="uv pip install -c constraints.txt -e '.[train]'")
