"""What a run says of itself: losses by language and source, tokens against the plan, experts' use, speed.

In come the losses of tokens and the load of experts, step by step; out come lines of `metrics.jsonl`, scalars for
TensorBoard and, now and then, which experts each language uses. Sums are kept on each rank and added over ranks when a
line is written. Does not change what is trained.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from marco_data.train.data_check import planned_tokens
from marco_data.train.loss import IGNORED
from marco_data.train.model import CausalLM
from marco_data.train.order import Plan, StagePlan
from marco_data.train.parallel import World
from marco_data.train.router import Routing, load_statistics
from marco_data.train.step import Done

MFU_FORMULA = "tokens_per_second x flops_per_token / (ranks x peak_flops)"

PEAK_FLOPS = {"H100": 989.5e12, "H200": 989.5e12, "A100": 312e12}
"""Dense bf16 FLOP/s as NVIDIA states them for the SXM boards, by a part of the device's name."""


def peak_flops_of(world: World) -> float | None:
    """The peak of this rank's GPU; None where it is not known, and then there is no MFU."""
    if world.device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(world.device)
    return next((peak for part, peak in PEAK_FLOPS.items() if part in name), None)


class Meter:
    """Sums between two lines; `seen` are tokens by source since the run began, over all ranks."""

    def __init__(self, plan: Plan, world: World, seen: Mapping[str, list[int]] | None = None) -> None:
        self.plan = plan
        self.world = world
        count = len(plan.sources)
        self.seen = {
            stage.stage: np.array((seen or {}).get(str(stage.stage), [0] * count), np.int64) for stage in plan.stages
        }
        self._start_over()

    def _start_over(self) -> None:
        count = len(self.plan.sources)
        self._losses = torch.zeros(count, dtype=torch.float64, device=self.world.device)
        self._counted = torch.zeros(count, dtype=torch.int64, device=self.world.device)
        self._tokens = torch.zeros(count, dtype=torch.int64, device=self.world.device)
        self._load: Tensor | None = None
        self._sums = dict.fromkeys(("loss", "aux", "z", "gradient_norm"), 0.0)
        self.steps = self._skipped = 0

    def add(self, done: Done, labels: Tensor, sources: Tensor, gradient_norm: float, *, skipped: bool) -> None:
        """One step; `labels` and `sources` are [sequences of this rank, seq], of the token that is told."""
        place = sources.flatten().long()
        counted = (labels != IGNORED).flatten()
        self._losses.index_add_(0, place[counted], done.losses.flatten()[counted].double())
        self._counted += torch.bincount(place[counted], minlength=len(self._counted))
        self._tokens += torch.bincount(place, minlength=len(self._tokens))
        self._load = done.load if self._load is None else self._load + done.load
        for name, value in {"loss": done.loss, "aux": done.aux, "z": done.z, "gradient_norm": gradient_norm}.items():
            self._sums[name] += value
        self.steps += 1
        self._skipped += skipped

    def line(self, stage: StagePlan) -> dict[str, Any]:
        """The sums of all ranks since the last line, as plain JSON; starts over. All ranks have to ask."""
        losses = self.world.sum(self._losses).cpu().numpy()
        counted = self.world.sum(self._counted).cpu().numpy()
        tokens = self.world.sum(self._tokens).cpu().numpy()
        self.seen[stage.stage] += tokens
        said: dict[str, Any] = {name: value / max(1, self.steps) for name, value in self._sums.items()}
        said |= {
            "steps": self.steps,
            "skipped": self._skipped,
            "step_tokens": int(tokens.sum()),
            "loss_by_language": _by(losses, counted, [place[0] for place in self.plan.sources]),
            "sources": self._sources(stage, losses, counted),
        }
        if self._load is not None and self._load.numel():
            said["experts"] = [row._asdict() for row in load_statistics(self._load)]
            said["dead_experts"] = sum(row["dead"] for row in said["experts"])
        self._start_over()
        return said

    def _sources(
        self, stage: StagePlan, losses: npt.NDArray[np.float64], counted: npt.NDArray[np.int64]
    ) -> list[dict[str, Any]]:
        planned = np.zeros(len(self.plan.sources))
        for number, drawn in planned_tokens(stage).items():
            planned[number] = drawn
        seen = self.seen[stage.stage]
        planned *= seen.sum() / planned.sum()
        return [
            {
                "language": language,
                "part": part,
                "source": source,
                "loss": float(losses[number] / counted[number]) if counted[number] else None,
                "seen": int(seen[number]),
                "planned": round(float(planned[number]), 1),
            }
            for number, (language, part, source) in enumerate(self.plan.sources)
            if planned[number] or seen[number]
        ]

    def state(self) -> dict[str, list[int]]:
        """What a checkpoint keeps; complete right after a line."""
        return {str(stage): seen.tolist() for stage, seen in self.seen.items()}


def _by(losses: npt.NDArray[np.float64], counted: npt.NDArray[np.int64], names: list[str]) -> dict[str, float]:
    sums: dict[str, list[float]] = {}
    for name, loss, count in zip(names, losses, counted, strict=True):
        own = sums.setdefault(name, [0.0, 0.0])
        own[0] += float(loss)
        own[1] += float(count)
    return {name: loss / count for name, (loss, count) in sorted(sums.items()) if count}


class Signatures:
    """Which experts each language's tokens go to: [languages, layers, experts], counted while `watching`.

    And for how many tokens a router in bf16 without a bias, which is what an export is run with, chooses the same.
    """

    def __init__(self, model: CausalLM, plan: Plan, world: World) -> None:
        self.world = world
        self.languages = sorted({place[0] for place in plan.sources})
        numbers = [self.languages.index(place[0]) for place in plan.sources]
        self._language_of = torch.tensor(numbers, device=world.device)
        config = model.config
        shape = (len(self.languages), config.num_hidden_layers, max(1, config.num_experts))
        self.counts = torch.zeros(shape, dtype=torch.int64, device=world.device)
        self.agreed = torch.zeros(2, config.num_hidden_layers, dtype=torch.int64, device=world.device)
        self._of_tokens: Tensor | None = None
        if config.num_experts:
            for number, layer in enumerate(model.model.layers):
                layer.mlp.gate.register_forward_hook(self._hook(number))

    def _hook(self, layer: int) -> Any:
        def count(router: Any, inputs: tuple[Tensor], routing: Routing) -> None:
            if self._of_tokens is None:
                return
            languages, experts = self.counts.shape[0], self.counts.shape[2]
            flat = (self._of_tokens.unsqueeze(1) * experts + routing.experts).flatten()
            counted = torch.bincount(flat, minlength=languages * experts)
            self.counts[:, layer] += counted.view(languages, experts)
            same = same_choice_in_bf16(inputs[0], router.weight, routing.experts)
            self.agreed[:, layer] += torch.stack((same.sum(), torch.tensor(len(same), device=same.device)))

        return count

    @contextmanager
    def watching(self, sources: Tensor) -> Iterator[None]:
        """Count one forward pass of inputs that are of `sources` [sequences, seq]."""
        self._of_tokens = self._language_of[sources.flatten().long()]
        try:
            yield
        finally:
            self._of_tokens = None

    def take(self) -> dict[str, Any]:
        """The counts of all ranks, and by language how far its use is from that of all, from 0 to 1; starts over.

        The distance is half the sum of absolute differences of shares, averaged over layers. `same_in_bf16` is by
        layer the share of tokens whose experts a bf16 router chooses too.
        """
        same, tokens = self.world.sum(self.agreed).cpu().double().numpy()
        self.agreed.zero_()
        counts = self.world.sum(self.counts).cpu().double().numpy()
        self.counts.zero_()
        total = counts.sum(0)
        overall = total / np.maximum(1, total.sum(-1, keepdims=True))
        distance = {}
        for language, own in zip(self.languages, counts, strict=True):
            if own.sum():
                share = own / np.maximum(1, own.sum(-1, keepdims=True))
                distance[language] = float((np.abs(share - overall).sum(-1) / 2).mean())
        agreed = (same / np.maximum(1, tokens)).tolist()
        return {"distance": distance, "same_in_bf16": agreed, "counts": counts.astype(np.int64)}


@torch.no_grad()
def same_choice_in_bf16(hidden: Tensor, weight: Tensor, experts: Tensor) -> Tensor:
    """Of each token, whether the highest logits in bf16 are those of the `experts` [tokens, top_k] that it went to."""
    logits = torch.nn.functional.linear(hidden.bfloat16(), weight.bfloat16())
    return (logits.topk(experts.shape[1], -1).indices.sort(-1).values == experts.sort(-1).values).all(-1)


def write_signatures(path: Path, languages: list[str], counts: npt.NDArray[np.int64]) -> None:
    """An .npz of `languages` and `counts` [languages, layers, experts]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez_compressed(file, languages=np.array(languages), counts=counts)


class Lines:
    """`metrics.jsonl`: a line of JSON for every thing that is said. Lines after `iteration` are of a run that died."""

    def __init__(self, path: Path, iteration: int) -> None:
        self.path = path
        kept = []
        if path.exists():
            for text in path.read_text("utf-8").splitlines():
                try:
                    said = json.loads(text)
                except ValueError:  # the last line of a process that was killed while it wrote
                    continue
                if said["iteration"] <= iteration:
                    kept.append(text)
        new = path.with_name(path.name + ".new")
        new.write_text("".join(f"{text}\n" for text in kept), "utf-8")
        os.replace(new, path)  # noqa: PTH105
        self._file = path.open("a", encoding="utf-8")

    def write(self, said: Mapping[str, Any]) -> None:
        """Add a line, whole or not at all as far as a reader can see."""
        self._file.write(json.dumps(_plain(said), ensure_ascii=False, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _plain(said: Any) -> Any:
    """JSON has no word for what is no number: it is written as one, `"nan"` or `"inf"`."""
    if isinstance(said, Mapping):
        return {name: _plain(value) for name, value in said.items()}
    if isinstance(said, list):
        return [_plain(value) for value in said]
    return str(said) if isinstance(said, float) and not math.isfinite(said) else said
