"""Writes what NVIDIA's own code makes of a dense model: in a process of its own, because it wants a GPU's names.

megatron-core's models ask for CUDA streams when they are built. Nothing is computed here, so names without a stream
behind them are enough.
"""

import sys
import tempfile
from typing import Any

import torch
import torch.distributed as dist


class NoStream:
    def __init__(self, *_: object, **__: object) -> None: ...


torch.cuda.Stream = NoStream  # type: ignore[misc, assignment]
torch.cuda.Event = NoStream  # type: ignore[misc, assignment]
torch.cuda.current_stream = lambda *_: NoStream()  # type: ignore[assignment]
torch.cuda.current_device = lambda: torch.device("cpu")  # type: ignore[assignment]

dist.init_process_group("gloo", init_method=f"file://{tempfile.mkdtemp()}/meeting", rank=0, world_size=1)

from megatron.core import parallel_state  # noqa: E402

parallel_state.initialize_model_parallel(create_gloo_process_groups=False)

from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec  # noqa: E402
from megatron.core.models.gpt.gpt_model import GPTModel  # noqa: E402
from megatron.core.transformer.moe.upcycling_utils import upcycle_state_dict  # noqa: E402
from megatron.core.transformer.transformer_config import TransformerConfig  # noqa: E402

HIDDEN, INNER, GRANULARITY, EXPERTS, LAYERS = 64, 192, 4, 16, 2


def model(experts: int | None) -> GPTModel:
    sparse: dict[str, Any] = {
        "num_moe_experts": EXPERTS,
        "moe_router_topk": 8,
        "moe_ffn_hidden_size": INNER // GRANULARITY,
        "moe_router_load_balancing_type": "none",
        "moe_token_dispatcher_type": "allgather",
    }
    config = TransformerConfig(
        num_layers=LAYERS,
        hidden_size=HIDDEN,
        num_attention_heads=4,
        num_query_groups=2,
        kv_channels=32,
        ffn_hidden_size=INNER,
        use_cpu_initialization=True,
        gated_linear_unit=True,
        activation_func=torch.nn.functional.silu,
        add_bias_linear=False,
        normalization="RMSNorm",
        qk_layernorm=True,
        bias_activation_fusion=False,
        gradient_accumulation_fusion=False,
        pipeline_dtype=torch.float32,
        **(sparse if experts else {}),
    )
    spec = get_gpt_layer_local_spec(
        num_experts=experts, moe_grouped_gemm=False, qk_layernorm=True, normalization="RMSNorm"
    )
    torch.manual_seed(0)
    return GPTModel(config, spec, vocab_size=512, max_sequence_length=64, position_embedding_type="rope")


dense, sparse_model = model(None), model(EXPERTS)
made = upcycle_state_dict([sparse_model], [dense])["model"]
before = dense.state_dict()
layers = []
for layer in range(LAYERS):
    at = f"decoder.layers.{layer}.mlp."
    experts = [
        {f"fc{n}": made[f"{at}experts.local_experts.{e}.linear_fc{n}.weight"] for n in (1, 2)} for e in range(EXPERTS)
    ]
    layers.append(
        {
            "fc1": before[f"{at}linear_fc1.weight"],
            "fc2": before[f"{at}linear_fc2.weight"],
            "experts": experts,
            "router": made[f"{at}router.weight"],
        }
    )
sizes = {"hidden": HIDDEN, "inner": INNER, "granularity": GRANULARITY, "experts": EXPERTS}
torch.save({**sizes, "layers": layers}, sys.argv[1])
dist.destroy_process_group()
