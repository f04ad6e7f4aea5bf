"""A training step on a CPU: grouped experts against the loop, and against transformers' Qwen3-MoE.

    python -m benchmarks.trainer [--pairs 9] [--threads 1] [--out benchmarks/TRAINER.md]

Wants the extra `train` and transformers. Both sides of a contest have the same weights, batch and optimizer, and take
a step each in turns, in an order that changes from pair to pair; the ratio is taken pair by pair, of the CPU seconds of
this process, so that other work on the machine counts little. A contest whose sides do not agree about the loss is an
error. Knows no GPU: what these numbers guard is that a change makes nothing slower, and they say nothing about MFU.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from marco_data.train.config import ModelConfig
from marco_data.train.experts import GROUPED, LOOP
from marco_data.train.loss import labels_of
from marco_data.train.model import CausalLM, initialize

SMALL_EXPERTS = ModelConfig(
    vocab_size=4096,
    hidden_size=256,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=64,
    intermediate_size=512,
    moe_intermediate_size=64,
    num_experts=128,
    num_experts_per_tok=8,
)
BATCH, SEQ = 4, 256

Step = Callable[[], float]


@dataclass(frozen=True)
class Contest:
    """Two steps that do the same; `goal` is how many times faster ours has to be."""

    name: str
    ours: Step
    other: Step
    goal: float


@dataclass(frozen=True)
class Result:
    """CPU seconds of both sides by pair."""

    contest: Contest
    pairs: list[tuple[float, float]]

    @property
    def ratios(self) -> list[float]:
        return sorted(other / ours for ours, other in self.pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    before = os.getloadavg()
    results = [hold(contest, arguments.pairs) for contest in contests()]
    text = report(results, arguments, before, os.getloadavg())
    print(text)
    if arguments.out:
        arguments.out.write_text(text, "utf-8")


def contests() -> list[Contest]:
    """Each with models of its own, so that neither trains on what another has learned."""
    return [
        Contest("grouped against the loop", _ours(GROUPED), _ours(LOOP), goal=2),
        Contest("ours against transformers", _ours(GROUPED), _theirs(), goal=1),
    ]


def hold(contest: Contest, pairs: int) -> Result:
    """One step each to warm up and to compare, then pairs of steps."""
    ours, other = contest.ours(), contest.other()
    if abs(ours - other) > 1e-4:
        raise ValueError(f"{contest.name}: the sides do not do the same, their losses are {ours} and {other}")
    timed = []
    for pair in range(pairs):
        if pair % 2:
            second = _seconds(contest.other)
            first = _seconds(contest.ours)
        else:
            first = _seconds(contest.ours)
            second = _seconds(contest.other)
        timed.append((first, second))
    return Result(contest, timed)


def _seconds(step: Step) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start


def _batch() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, SMALL_EXPERTS.vocab_size, (BATCH, SEQ + 1), generator=generator)


def _ours(implementation: str) -> Step:
    model = initialize(CausalLM(SMALL_EXPERTS, implementation=implementation), 0)
    optimizer, tokens = torch.optim.AdamW(model.parameters(), lr=1e-4), _batch()

    def step() -> float:
        out = model(tokens[:, :-1], labels_of(tokens))
        loss = out.loss_sum / out.token_count
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def _theirs() -> Step:
    config = SMALL_EXPERTS
    names = (
        *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim"),
        *("intermediate_size", "moe_intermediate_size", "num_experts", "num_experts_per_tok", "norm_topk_prob"),
        *("tie_word_embeddings", "max_position_embeddings", "rms_norm_eps"),
    )
    sizes: dict[str, Any] = {name: getattr(config, name) for name in names}
    rope = {"rope_theta": config.rope_theta, "rope_type": "default"}
    model = transformers.Qwen3MoeForCausalLM(transformers.Qwen3MoeConfig(**sizes, rope_parameters=rope))
    weights = initialize(CausalLM(config), 0).state_dict()
    model.load_state_dict(weights | {"lm_head.weight": weights["model.embed_tokens.weight"]})
    optimizer, tokens = torch.optim.AdamW(model.parameters(), lr=1e-4), _batch()

    def step() -> float:
        loss = model(tokens, labels=tokens, use_cache=False).loss  # it shifts labels itself
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def report(
    results: list[Result], arguments: argparse.Namespace, before: tuple[float, ...], after: tuple[float, ...]
) -> str:
    """The page as it is written."""
    config = SMALL_EXPERTS
    lines = [
        "# A training step on a CPU",
        "",
        f"`python -m benchmarks.trainer --pairs {arguments.pairs} --threads {arguments.threads}`: forward, backward "
        f"and AdamW in fp32; {config.num_hidden_layers} layers of width {config.hidden_size}, {config.num_experts} "
        f"experts of {config.moe_intermediate_size} with {config.num_experts_per_tok} chosen "
        f"({config.parameters() / 1e6:.1f} M parameters, {config.active_parameters() / 1e6:.1f} M active), "
        f"{BATCH} x {SEQ} tokens, vocabulary {config.vocab_size:,}. Steps of both sides alternate, and the ratio is "
        f"taken pair by pair, of the process's CPU seconds. torch {torch.__version__}, transformers "
        f"{transformers.__version__}, {os.cpu_count()} cores shared with other work: load {before[0]:.1f} before and "
        f"{after[0]:.1f} after, which CPU seconds feel less than a clock does.",
        "",
        "| contest | ours, CPU s (median) | other, CPU s (median) | other / ours: median (lowest to highest) | goal |",
        "|---|---|---|---|---|",
    ]
    for result in results:
        ours, other = (statistics.median(side) for side in zip(*result.pairs, strict=True))
        ratios = result.ratios
        lines.append(
            f"| {result.contest.name} | {ours:.3f} | {other:.3f} | {statistics.median(ratios):.2f} "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}) | >= {result.contest.goal:g} |"
        )
    lines += [
        "",
        "transformers runs with its defaults, which are grouped products too (`grouped_mm`) and all logits at once.",
        "",
        "**No GPU figure exists.** None of this has run on a GPU: MFU, the goal of 25 % on Mini cut to the layers that "
        "fit and the 1.5 times transformers are unmeasured, and these numbers say nothing about them.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
