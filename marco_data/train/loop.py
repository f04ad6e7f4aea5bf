"""The training loop: a plan of data and settings in, checkpoints and metrics out.

A run is decided by its plan and `Settings`: which numbers it computes, to the last bit on one layout and to rounding
between layouts. `Running` says where and how it is computed and may differ from one start to the next. A run folder has
checkpoints (`iteration-<n>/`, `latest`), `metrics.jsonl`, `tensorboard/` and `signatures/`; started again, the run goes
on from its newest checkpoint.
Knows neither recipes nor the command line.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from marco_data.errors import MarcoError, RecipeError
from marco_data.train.batches import Batch, Batches, Samples, check_state
from marco_data.train.checkpoint import Checkpoints, Writer, damage, load, newest, read_state, refuse
from marco_data.train.loss import IGNORED, labels_of
from marco_data.train.metrics import MFU_FORMULA, Lines, Meter, Signatures, peak_flops_of, write_signatures
from marco_data.train.model import CausalLM
from marco_data.train.optimizer import clip_gradients, gradient_norm, optimizer_of, set_rate
from marco_data.train.order import Plan, StagePlan
from marco_data.train.parallel import Computing, Weights, World, sharded
from marco_data.train.router import update_expert_bias
from marco_data.train.settings import BF16, FP32, FP64, Settings, check_run
from marco_data.train.spikes import FINE, Suspect, Watch, suspects, worst
from marco_data.train.step import Done, forward_backward
from marco_data.train.tensorboard import EventsFile

DTYPES = {BF16: torch.bfloat16, FP32: torch.float32, FP64: torch.float64}


@dataclass(frozen=True)
class Running:
    """Where and how: of no consequence for what is trained but rounding. `stop_after` iterations end the run early."""

    folder: Path
    micro_batch: int = 1
    recompute: bool = False
    compile: bool = False
    checkpoint_every: int = 1000
    keep: int = 3
    in_background: bool = True
    log_every: int = 10
    signatures_every: int = 0
    peak_flops: float | None = None
    stop_after: int | None = None
    writer: Writer | None = field(default=None, compare=False)


class Ended(NamedTuple):
    """`finished` is the whole plan; else it was asked to stop, and the same command goes on."""

    iteration: int
    finished: bool
    loss: float


Say = Callable[[str], None]


class _Stopping:
    """SIGTERM asks for a checkpoint and the end: a scheduler's notice before it takes the machine away."""

    def __init__(self) -> None:
        self.asked = False
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._before = signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, _signal: int, _frame: Any) -> None:
        self.asked = True

    def restore(self) -> None:
        if self._main:
            signal.signal(signal.SIGTERM, self._before)


def train(
    plan: Plan, settings: Settings, running: Running, world: World, weights: Weights, *, say: Say = lambda _: None
) -> Ended:
    """Run, or go on with, a training run; `weights` are those it begins with. All ranks call it.

    Raises RecipeError before anything is computed where plan, settings or the newest checkpoint do not fit, MarcoError
    where the run cannot go on.
    """
    check_run(plan, settings, world.ranks, running.micro_batch)
    run = _Run(plan, settings, running, world, weights, say)
    stopping = _Stopping()
    try:
        return run.until(stopping)
    finally:
        stopping.restore()
        run.close()


def check_resumable(folder: Path, plan: Plan, settings: Settings) -> dict[str, Any] | None:
    """The newest checkpoint's state, none before the first. RecipeError where it is damaged or of another run.

    Of its files only the sizes are looked at: their contents are read by all ranks together (`Checkpoints.check`).
    """
    found = newest(folder)
    if found is None:
        return None
    refuse(found, damage(found, contents=False))
    state = read_state(found)
    check_state(plan, state["data"])
    before, now = _flat(state["settings"]), _flat(_as_json(settings.identity()))
    changed = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
    if changed:
        told = "; ".join(f"`{name}` was {before.get(name)}, is {now.get(name)}" for name in changed[:3])
        raise RecipeError(
            f"the run in `{folder}` was started with other settings: {told}",
            hint="bring the settings back, or start a new run in another folder",
        )
    return state


class _Run:
    def __init__(
        self, plan: Plan, settings: Settings, running: Running, world: World, weights: Weights, say: Say
    ) -> None:
        self.plan, self.settings, self.running, self.world, self.say = plan, settings, running, world, say
        self.checkpoints = Checkpoints(
            running.folder,
            world,
            keep=running.keep,
            in_background=running.in_background,
            writer=running.writer,
        )
        found = newest(self.checkpoints.folder)
        state = check_resumable(running.folder, plan, settings)
        if found is not None:
            self.checkpoints.check(found)
        computing = Computing(
            dtype=DTYPES[settings.precision],
            master=torch.float64 if settings.precision == FP64 else torch.float32,
            recompute=running.recompute,
            compile=running.compile,
        )
        biased = settings.expert_bias_rate > 0
        # What a checkpoint is about to overwrite is not read or drawn first.
        begin = weights if found is None else lambda _name, shape: torch.zeros(()).expand(shape)
        self.model: CausalLM = sharded(settings.model, world, begin, computing, balance_by_bias=biased)
        self.optimizer = optimizer_of(self.model, settings.adam)
        self.iteration = self.updates = self.tokens = self.saved = 0
        self.loss = float("nan")
        shape = (settings.model.num_hidden_layers, settings.model.num_experts)
        self.load = torch.ones(shape, dtype=torch.int64, device=world.device)  # even: a run's first step balances none
        self.stage: int | None = None
        self.watch = Watch(settings.spikes)
        seen = None
        data_state = None
        if found is not None and state is not None:
            load(found, self.model, self.optimizer, steps=state["updates"])
            self.iteration, self.updates, self.tokens = state["iteration"], state["updates"], state["tokens"]
            self.saved = self.iteration
            self.watch = Watch(settings.spikes, state["recent_losses"], state["skipped_in_a_row"])
            self.stage = state["stage"]
            self.load = torch.tensor(state["load"], dtype=torch.int64, device=world.device)
            seen, data_state = state["seen"], state["data"]
            say(f"going on from `{found}`: iteration {self.iteration:,}, {self.tokens:,} tokens")
        self.batches = Batches(plan, batch=settings.global_batch, rank=world.rank, ranks=world.ranks, state=data_state)
        self.data_state = self.batches.state()
        self.meter = Meter(plan, world, seen)
        self.signatures = Signatures(self.model, plan, world)
        self.lines = Lines(running.folder / "metrics.jsonl", self.iteration) if world.rank == 0 else None
        self.events = EventsFile(running.folder / "tensorboard") if world.rank == 0 else None
        self.peak = running.peak_flops or peak_flops_of(world)
        self.flops = settings.model.flops_per_token(plan.sequence)
        self._waited = 0.0
        self._since = time.perf_counter()
        self._tell("start" if found is None else "resume", self._about())

    def _about(self) -> dict[str, Any]:
        return {
            "settings": _as_json(self.settings.identity()),
            "plan": self.plan.digest,
            "ranks": self.world.ranks,
            "ep": self.world.ep,
            "micro_batch": self.running.micro_batch,
            "recompute": self.running.recompute,
            "compile": self.running.compile,
            "parameters": self.settings.model.parameters(),
            "active_parameters": self.settings.model.active_parameters(),
            "flops_per_token": self.flops,
            "peak_flops": self.peak,
            "mfu_formula": MFU_FORMULA,
            "torch": torch.__version__,
        }

    def until(self, stopping: _Stopping) -> Ended:
        for done_now, (batch, state) in enumerate(self._ahead(), 1):
            if self.stage not in (None, batch.stage):
                self.watch.forget()
            self.stage = batch.stage
            stage = self.plan.stage(batch.stage)
            self._step(stage, batch)
            self.data_state = state
            stop = self._agreed(stopping.asked) or done_now == self.running.stop_after
            due = self.iteration % self.running.checkpoint_every == 0
            if due or self.iteration % self.running.log_every == 0:
                self._line(stage)
            if due:
                self._save()
            self.checkpoints.poll()
            if stop:
                self.say(f"stopping after iteration {self.iteration:,}: the same command goes on from here")
                break
        finished = self.tokens == sum(self.settings.schedule.tokens)
        if self.stage is not None and self.saved != self.iteration:
            if self.meter.steps:
                self._line(self.plan.stage(self.stage))
            self._save()
        self.checkpoints.wait()
        return Ended(self.iteration, finished, self.loss)

    def _ahead(self) -> Iterator[tuple[Batch, dict[str, Any]]]:
        """This rank's batches, the next one read while this one is trained on, and the data's state after each."""
        taken = iter(self.batches)

        def read() -> tuple[Batch, dict[str, Any]] | None:
            batch = next(taken, None)
            return None if batch is None else (batch, self.batches.state())

        with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
            under_way = thread.submit(read)
            while True:
                begin = time.perf_counter()
                found = under_way.result()
                self._waited += time.perf_counter() - begin
                if found is None:
                    return
                under_way = thread.submit(read)
                yield found

    def _step(self, stage: StagePlan, batch: Batch) -> None:
        settings, device = self.settings, self.world.device
        tokens = torch.from_numpy(batch.tokens).to(device)
        documents = torch.from_numpy(batch.documents).to(device) if settings.mask_documents else None
        sources = torch.from_numpy(batch.sources).to(device)
        labels = labels_of(tokens, documents)
        rate = settings.schedule.rate(self.tokens)
        every = self.running.signatures_every
        watching = bool(every) and (self.iteration + 1) % every == 0
        done = forward_backward(
            self.model,
            self.world,
            tokens[:, :-1],
            labels,
            None if documents is None else documents[:, :-1],
            self.running.micro_batch,
            settings.coefficients,
            self.load,
            (lambda part: self.signatures.watching(sources[part, :-1])) if watching else None,
        )
        norm = gradient_norm(self.model.parameters(), self.world)
        self.iteration += 1
        self.tokens += settings.global_batch * self.plan.sequence
        self.loss = done.loss
        verdict = self.watch.judge(done.loss, float(norm))
        skipped = self.watch.skips(verdict)
        if not skipped:
            clip_gradients(self.model.parameters(), norm, settings.adam.clip)
            set_rate(self.optimizer, rate)
            self.optimizer.step()
            self.updates += 1
            self.load = done.load
            self._balance()
        self.optimizer.zero_grad()
        self.rate = rate
        self.meter.add(done, labels, sources[:, 1:], float(norm), skipped=skipped)
        if verdict != FINE:
            self._tell_of_spike(stage, batch, done, labels, verdict, float(norm), skipped=skipped)
        if watching:
            taken = self.signatures.take()
            said = {name: taken[name] for name in ("distance", "same_in_bf16")}
            self._tell("signature", {"stage": stage.stage, **said})
            if self.world.rank == 0:
                at = self.running.folder / "signatures" / f"iteration-{self.iteration:08d}.npz"
                write_signatures(at, self.signatures.languages, taken["counts"])
        if self.watch.gives_up:
            raise MarcoError(
                f"{self.watch.skipped} steps in a row were skipped, the last with a loss of {done.loss}: the run stops "
                f"before it trains on nothing (iteration {self.iteration:,})",
                hint=f"see the spikes in `{self.running.folder / 'metrics.jsonl'}`; a lower learning rate, or an "
                "earlier checkpoint",
            )

    def _balance(self) -> None:
        if self.settings.expert_bias_rate:
            for layer, load_of_layer in zip(self.model.model.layers, self.load, strict=True):
                update_expert_bias(layer.mlp.gate.expert_bias, load_of_layer, self.settings.expert_bias_rate)

    def _tell_of_spike(
        self,
        stage: StagePlan,
        batch: Batch,
        done: Done,
        labels: torch.Tensor,
        verdict: str,
        norm: float,
        *,
        skipped: bool,
    ) -> None:
        counted = (labels != IGNORED).cpu().numpy()
        losses = done.losses.double().cpu().numpy().reshape(counted.shape)
        own = suspects(losses, batch.documents[:, 1:], counted, batch.first)
        gathered: list[list[Suspect] | None] = [None] * self.world.ranks
        dist.all_gather_object(gathered, own, group=self.checkpoints.group)
        if self.world.rank:
            return
        samples = Samples(stage)
        rows = []
        for suspect in worst([s for part in gathered if part for s in part]):
            use = samples.documents_of(suspect.sample)[suspect.document]
            rows.append({"loss": suspect.loss, **asdict(use)})
        recent = sorted(self.watch.recent)
        usual = recent[len(recent) // 2] if recent else None
        said = {"stage": stage.stage, "stage_iteration": batch.iteration, "verdict": verdict, "loss": done.loss}
        said |= {"usual_loss": usual, "gradient_norm": norm, "skipped": skipped, "documents": rows}
        self._tell("spike", said)
        named = ", ".join(f"{row['prefix']}:{row['document']}" for row in rows)
        self.say(f"iteration {self.iteration:,}: {verdict}, loss {done.loss:.4f}; highest in {named}")

    def _line(self, stage: StagePlan) -> None:
        said = self.meter.line(stage)
        now = time.perf_counter()
        seconds, waited = now - self._since, self._waited
        self._since, self._waited = now, 0.0
        speed = said["step_tokens"] / seconds
        said |= {
            "stage": stage.stage,
            "tokens": self.tokens,
            "rate": self.rate,
            "seconds": seconds,
            "data_wait_seconds": waited,
            "tokens_per_second": speed,
            "mfu": speed * self.flops / (self.world.ranks * self.peak) if self.peak else None,
        }
        self._tell("step", said)
        if self.events is not None:
            flat = ("loss", "aux", "z", "gradient_norm", "rate", "tokens_per_second", "data_wait_seconds", "mfu")
            scalars = {name: said[name] for name in (*flat, "dead_experts") if said.get(name) is not None}
            scalars |= {f"loss_by_language/{name}": loss for name, loss in said["loss_by_language"].items()}
            self.events.write(self.iteration, scalars)
        speed_said = f"{speed:,.0f} tokens/s"
        self.say(f"iteration {self.iteration:,}: loss {said['loss']:.4f}, {self.tokens:,} tokens, {speed_said}")

    def _tell(self, event: str, said: dict[str, Any]) -> None:
        if self.lines is not None:
            self.lines.write({"event": event, "iteration": self.iteration, **said})

    def _save(self) -> None:
        state = {
            "iteration": self.iteration,
            "updates": self.updates,
            "tokens": self.tokens,
            "stage": self.stage,
            "load": self.load.tolist(),
            "data": self.data_state,
            "seen": self.meter.state(),
            "recent_losses": self.watch.recent,
            "skipped_in_a_row": self.watch.skipped,
            **self._about(),
        }
        self.checkpoints.save(self.iteration, self.model, self.optimizer, self.settings.model, state)
        self.saved = self.iteration

    def _agreed(self, asked: bool) -> bool:
        """Whether any rank was asked to stop: all have to write the same checkpoint."""
        flag = torch.tensor(int(asked), device=self.world.device)
        return bool(self.world.sum(flag))

    def close(self) -> None:
        for file in (self.lines, self.events):
            if file is not None:
                file.close()


def _as_json(value: Any) -> Any:
    """As it comes back from JSON."""
    if isinstance(value, dict):
        return {str(name): _as_json(own) for name, own in value.items()}
    return [_as_json(own) for own in value] if isinstance(value, list | tuple) else value


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    return {
        at: own for key, inner in value.items() for at, own in _flat(inner, f"{name}.{key}" if name else key).items()
    }
