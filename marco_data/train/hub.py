"""How a model lies in a Hugging Face folder: `config.json` in every spelling, and the names of its tensors.

In comes a `config.json`; out comes a `ModelConfig`, and the other way round. Knows which tensors a model has, under
which names and in which shapes, in memory and on disk; needs no torch and reads no weights.

In memory the experts of a layer are two tensors; on disk each expert has three of its own:

  model.layers.N.mlp.experts.gate_up_proj [E, 2I, D]    model.layers.N.mlp.experts.K.gate_proj.weight [I, D]
                                                        model.layers.N.mlp.experts.K.up_proj.weight   [I, D]
  model.layers.N.mlp.experts.down_proj    [E, D, I]     model.layers.N.mlp.experts.K.down_proj.weight [D, I]
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from marco_data.errors import RecipeError
from marco_data.train.config import CONFIGS, ModelConfig

DENSE, SPARSE = "qwen3", "qwen3_moe"
ARCHITECTURES = {DENSE: "Qwen3ForCausalLM", SPARSE: "Qwen3MoeForCausalLM"}
GATE_UP, DOWN = "mlp.experts.gate_up_proj", "mlp.experts.down_proj"

Shape = tuple[int, ...]

_SIZES = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim"),
    *("intermediate_size", "max_position_embeddings", "rms_norm_eps"),
)
_EXPERT_SIZES = ("moe_intermediate_size", "num_experts_per_tok")
_REFUSED: tuple[tuple[str, tuple[Any, ...]], ...] = (
    # What changes the function and this trainer has not, with the values that leave it out.
    ("attention_bias", (False, None)),
    ("hidden_act", ("silu", None)),
    ("use_sliding_window", (False, None)),
    ("rope_scaling", (None,)),
    ("mlp_only_layers", ([], None)),
    ("decoder_sparse_step", (1, None)),
    ("quantization_config", (None,)),
)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of the user's."""
    try:
        said = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        hint = "a Hugging Face folder holds `config.json` beside its `.safetensors`"
        raise RecipeError(f"there is no `{path}`", hint=hint) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"`{path}` is no JSON: {error}") from error
    if not isinstance(said, dict):
        raise RecipeError(f"`{path}` holds no JSON object")
    return said


def read_config(path: Path) -> ModelConfig:
    """The model of a `config.json` as transformers 4 or 5 writes it, or of a JSON object of `ModelConfig`'s fields."""
    said = read_json(path)
    if "model_type" not in said:
        return config_of_fields(said, path)
    if said["model_type"] not in ARCHITECTURES:
        raise RecipeError(
            f"`{path}` is of a `{said['model_type']}` model", hint=f"this trainer knows {DENSE} and {SPARSE}"
        )
    for key, left_out in _REFUSED:
        if said.get(key) not in left_out:
            hint = f"it knows models in which `{key}` is {json.dumps(left_out[0])}"
            raise RecipeError(f"`{path}`: this trainer has no `{key}`: {json.dumps(said[key])}", hint=hint)
    sparse = said["model_type"] == SPARSE
    values: dict[str, Any] = {key: said.get(key) for key in (*_SIZES, *(_EXPERT_SIZES if sparse else ()))}
    values["rope_theta"] = _rope_theta(said, path)
    if sparse:
        values["num_experts"] = _agreed(
            path, num_experts=said.get("num_experts"), num_local_experts=said.get("num_local_experts")
        )
    missing = sorted(key for key, value in values.items() if value is None)
    if missing:
        hint = "no default is taken: a wrong one would load, and compute something else"
        raise RecipeError(f"`{path}` does not give {', '.join(f'`{key}`' for key in missing)}", hint=hint)
    _numbers(values, path)
    # These three have one default in every version of transformers.
    values["tie_word_embeddings"] = said.get("tie_word_embeddings", False)
    values["initializer_range"] = said.get("initializer_range", 0.02)
    values["norm_topk_prob"] = said.get("norm_topk_prob", False) if sparse else True
    return ModelConfig(**values)


def config_of(name: str) -> ModelConfig:
    """A shipped model by its name, or that of a `config.json` or of the folder that holds one."""
    if name in CONFIGS:
        return CONFIGS[name]
    path = Path(name)
    if path.is_dir():
        return read_config(path / "config.json")
    if path.is_file():
        return read_config(path)
    hint = f"there are {', '.join(CONFIGS)}; or give the path of a `config.json`"
    raise RecipeError(f"no model is called `{name}`, and no file or folder is", hint=hint)


def check_initial(folder: Path, model: ModelConfig) -> dict[str, Any]:
    """Refuse weights of another model than `model`; what is known of their tokenizer, as a blend says it."""
    config = read_config(folder / "config.json")
    sizes = ("vocab_size", "hidden_size", "num_hidden_layers", "num_experts", "num_experts_per_tok", "head_dim")
    for name in (*sizes, "rope_theta", "tie_word_embeddings", "norm_topk_prob", "rms_norm_eps"):
        have, wanted = getattr(config, name), getattr(model, name)
        if have != wanted:
            raise RecipeError(
                f"`{folder}` has `{name}` {have}, the recipe's model {wanted}",
                hint="begin with weights of the recipe's model: `marco-data upcycle --to` makes them",
            )
    if not any(folder.glob("*.safetensors")):
        hint = "copy them there, or name the folder that has them"
        raise RecipeError(f"`{folder}` has a config.json and no weights (`*.safetensors`)", hint=hint)
    tokenizer = folder / "tokenizer.json"
    return {"hash": hashlib.sha256(tokenizer.read_bytes()).hexdigest()} if tokenizer.exists() else {}


def config_json(config: ModelConfig, dtype: str, tokens: Mapping[str, Any]) -> dict[str, Any]:
    """What to write as `config.json`, so that transformers 4 and 5 and vLLM read the same model.

    transformers 5 renamed three keys; older readers that miss theirs take a default in silence (`rope_theta` 10,000,
    128 experts), so both spellings are written. `tokens` are the ids of the special tokens, where they are known.
    """
    kind = SPARSE if config.num_experts else DENSE
    said: dict[str, Any] = {
        "architectures": [ARCHITECTURES[kind]],
        "attention_bias": False,
        "attention_dropout": 0.0,
        **tokens,
        "dtype": dtype,
        "torch_dtype": dtype,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "hidden_size": config.hidden_size,
        "initializer_range": config.initializer_range,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_position_embeddings,
        "max_window_layers": config.num_hidden_layers,
        "model_type": kind,
        "num_attention_heads": config.num_attention_heads,
        "num_hidden_layers": config.num_hidden_layers,
        "num_key_value_heads": config.num_key_value_heads,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_parameters": {"rope_theta": config.rope_theta, "rope_type": "default"},
        "rope_theta": config.rope_theta,
        "sliding_window": None,
        "tie_word_embeddings": config.tie_word_embeddings,
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": config.vocab_size,
    }
    if config.num_experts:
        said |= {
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
            "moe_intermediate_size": config.moe_intermediate_size,
            "norm_topk_prob": config.norm_topk_prob,
            "num_experts": config.num_experts,
            "num_local_experts": config.num_experts,
            "num_experts_per_tok": config.num_experts_per_tok,
            "output_router_logits": False,
        }
    return dict(sorted(said.items()))


def parameter_shapes(config: ModelConfig) -> dict[str, Shape]:
    """Every parameter in memory with its shape, in the order in which a token meets them."""
    width, head = config.hidden_size, config.head_dim
    queries, keys = config.num_attention_heads * head, config.num_key_value_heads * head
    shapes: dict[str, Shape] = {"model.embed_tokens.weight": (config.vocab_size, width)}
    for layer in range(config.num_hidden_layers):
        layer_shapes: dict[str, Shape] = {
            "input_layernorm.weight": (width,),
            "self_attn.q_proj.weight": (queries, width),
            "self_attn.k_proj.weight": (keys, width),
            "self_attn.v_proj.weight": (keys, width),
            "self_attn.q_norm.weight": (head,),
            "self_attn.k_norm.weight": (head,),
            "self_attn.o_proj.weight": (width, queries),
            "post_attention_layernorm.weight": (width,),
        }
        if config.num_experts:
            inner = config.moe_intermediate_size
            layer_shapes["mlp.gate.weight"] = (config.num_experts, width)
            layer_shapes[GATE_UP] = (config.num_experts, 2 * inner, width)
            layer_shapes[DOWN] = (config.num_experts, width, inner)
        else:
            layer_shapes["mlp.gate_proj.weight"] = (config.intermediate_size, width)
            layer_shapes["mlp.up_proj.weight"] = (config.intermediate_size, width)
            layer_shapes["mlp.down_proj.weight"] = (width, config.intermediate_size)
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in layer_shapes.items()}
    shapes["model.norm.weight"] = (width,)
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, width)
    return shapes


def on_disk(name: str, shape: Shape) -> Iterator[tuple[str, Shape]]:
    """The tensors that a parameter is on disk: itself, or those of each expert, gate before up."""
    head, _, last = name.rpartition(".")
    if name.endswith(GATE_UP):
        for expert in range(shape[0]):
            for half in ("gate_proj", "up_proj"):
                yield f"{head}.{expert}.{half}.weight", (shape[1] // 2, shape[2])
    elif name.endswith(DOWN):
        for expert in range(shape[0]):
            yield f"{head}.{expert}.{last}.weight", shape[1:]
    else:
        yield name, shape


def special_tokens(folder: Path) -> dict[str, Any]:
    """The ids that a folder's `config.json` gives special tokens."""
    path = folder / "config.json"
    said = read_json(path) if path.is_file() else {}
    return {key: said[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id") if said.get(key) is not None}


def config_of_fields(said: Mapping[str, Any], path: Path) -> ModelConfig:
    """The model of an object of `ModelConfig`'s fields, which is in `path`."""
    known = {field.name for field in fields(ModelConfig)}
    unknown = sorted(set(said) - known)
    if unknown:
        hint = "it has neither a `model_type` nor only the keys of a model of ours"
        raise RecipeError(f"`{path}` is no model's: `{unknown[0]}` is unknown", hint=hint)
    _numbers({key: value for key, value in said.items() if not isinstance(value, bool)}, path)
    try:
        return ModelConfig(**said)
    except TypeError as error:
        raise RecipeError(f"`{path}` is no whole model's: {error}") from error


def _numbers(values: Mapping[str, Any], path: Path) -> None:
    floats = ("rope_theta", "rms_norm_eps", "initializer_range")
    for key, value in values.items():
        right = isinstance(value, int | float) if key in floats else isinstance(value, int)
        if not right or isinstance(value, bool):
            raise RecipeError(f"`{path}`: `{key}` is {json.dumps(value)}, not a number of its kind")


def _rope_theta(said: dict[str, Any], path: Path) -> Any:
    rope = said.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default":
        hint = "it knows rotary positions of the type `default`"
        raise RecipeError(f"`{path}`: this trainer has no `rope_type`: {rope['rope_type']}", hint=hint)
    return _agreed(path, **{"rope_theta": said.get("rope_theta"), "rope_parameters.rope_theta": rope.get("rope_theta")})


def _agreed(path: Path, **spellings: Any) -> Any:
    given = {key: value for key, value in spellings.items() if value is not None}
    if len({float(value) for value in given.values()}) > 1:
        told = " and ".join(f"`{key}` {value}" for key, value in given.items())
        hint = "two spellings of one number: which of them is read depends on the reader, so make them one"
        raise RecipeError(f"`{path}` gives {told}", hint=hint)
    return next(iter(given.values()), None)
