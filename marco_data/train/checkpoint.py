"""Checkpoints: weights, optimizer states and the run's place, written while training goes on.

In come a sharded model, its optimizer and a JSON-able state; out come folders `iteration-<n>` that any number of ranks
load. A folder gets that name when all of it is on disk, and `latest` names the newest, so a process that is killed at
any moment leaves whole checkpoints and at most one `.partial` folder, which the next run removes. Does not know what
the state means. All ranks have to see the same folder.

iteration-00000100/
  config.json       the fields of `ModelConfig`
  run.json          the run's place and everything it was decided by
  .metadata, *.distcp   torch.distributed.checkpoint: `model.<name>` and `optimizer.<name>.{exp_avg,exp_avg_sq}`
  complete.json     bytes and SHA-256 of each of these files, checked before anything is loaded
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import WriteResult
from torch.distributed.tensor import DTensor
from torch.futures import Future as TorchFuture

from marco_data.errors import MarcoError, RecipeError
from marco_data.train.config import ModelConfig
from marco_data.train.parallel import World

_NAME = re.compile(r"iteration-(\d{8})")
_PARTIAL, _OLD, _DIGEST, _SEAL = ".partial", ".old", ".sha256", "complete.json"
MOMENTS = ("exp_avg", "exp_avg_sq")

Writer = Callable[[Path], FileSystemWriter]


def newest(folder: Path) -> Path | None:
    """The whole checkpoint with the highest iteration."""
    found = [path for path in folder.glob("iteration-*") if _NAME.fullmatch(path.name)] if folder.is_dir() else []
    return max(found, default=None, key=lambda path: path.name)


def seal(folder: Path) -> None:
    """Write down what the files of a finished folder are, so that `damage` finds whatever becomes another."""
    written = {}
    for file in sorted(folder.iterdir()):
        if file.suffix == _DIGEST:
            continue
        noted = file.with_name(file.name + _DIGEST)
        digest = noted.read_text("ascii") if noted.exists() else _sha256(file)
        written[file.name] = {"bytes": file.stat().st_size, "sha256": digest}
    for noted in folder.glob(f"*{_DIGEST}"):
        noted.unlink()
    _write(folder / _SEAL, written)


def damage(path: Path, *, part: int = 0, parts: int = 1, contents: bool = True) -> str | None:
    """What of a sealed folder is not as it was written: the first of its files that is gone, cut short or another.

    Of `parts` that read the files' contents between them this is one; sizes are looked at by each. Without `contents`
    only they are, which takes no time.
    """
    try:
        written = json.loads((path / _SEAL).read_text("utf-8"))
        expected = {str(name): (int(said["bytes"]), str(said["sha256"])) for name, said in written.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        return f"{_SEAL}: {type(error).__name__}: {error}"
    for name, (size, _) in expected.items():
        there = (path / name).stat().st_size if (path / name).exists() else None
        if there != size:
            return f"`{name}` " + ("is gone" if there is None else f"has {there:,} bytes, not {size:,}")
    if not contents:
        return None
    # The largest first and in turn, so that parts are of like size.
    names = sorted(expected, key=lambda name: (-expected[name][0], name))[part::parts]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for name, digest in zip(names, pool.map(_sha256, (path / name for name in names)), strict=True):
            if digest != expected[name][1]:
                return f"`{name}` is not what was written: its SHA-256 is {digest}, not {expected[name][1]}"
    return None


def refuse(path: Path, said: str | None) -> None:
    """Raise RecipeError where something is `said` of a checkpoint's damage, with what to do."""
    if said is None:
        return
    others = sorted(p.name for p in path.parent.glob("iteration-*") if _NAME.fullmatch(p.name) and p != path)
    raise RecipeError(
        f"the checkpoint `{path}` is damaged: {said}",
        hint=f"remove `{path}` and the run goes on from {f'`{others[-1]}`' if others else 'its beginning'}",
    )


def read_state(path: Path) -> dict[str, Any]:
    """The run's place in a checkpoint. Raises RecipeError where it cannot be read."""
    try:
        state = json.loads((path / "run.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError(f"the checkpoint `{path}` is damaged: run.json: {error}") from None
    if not isinstance(state, dict):
        raise RecipeError(f"the checkpoint `{path}` is damaged: run.json is no object")
    return state


class HashingWriter(FileSystemWriter):
    """Notes the SHA-256 of each file beside it: every rank of its own, and in the thread that writes."""

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> TorchFuture[list[WriteResult]]:
        done = super().write_data(plan, planner)
        done.wait()
        for name in {result.storage_data.relative_path for result in done.value()}:
            file = Path(self.path) / name
            file.with_name(file.name + _DIGEST).write_text(_sha256(file), "ascii")
        return done


class Checkpoints:
    """The checkpoints of one run; of them the `keep` newest stay."""

    def __init__(
        self, folder: Path, world: World, *, keep: int = 3, in_background: bool = True, writer: Writer | None = None
    ) -> None:
        self.folder = folder
        self.keep = keep
        self.in_background = in_background
        self._world = world
        self._writer = writer or HashingWriter
        self._under_way: tuple[Path, Future[Any]] | None = None
        # Of its own: what a thread says to other ranks must not mix with what training says.
        self.group = dist.new_group(backend="gloo")
        if world.rank == 0:
            folder.mkdir(parents=True, exist_ok=True)
            for left in [*folder.glob(f"*{_PARTIAL}"), *folder.glob(f"*{_OLD}")]:
                shutil.rmtree(left)
        dist.barrier(self.group)

    def check(self, path: Path) -> None:
        """Refuse a checkpoint of which a file is gone or not what was written; ranks share the reading.

        Raises RecipeError, on every rank the same.
        """
        found: list[str | None] = [None] * self._world.ranks
        dist.all_gather_object(found, damage(path, part=self._world.rank, parts=self._world.ranks), group=self.group)
        refuse(path, next(filter(None, found), None))

    def save(
        self,
        iteration: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        config: ModelConfig,
        state: Mapping[str, Any],
    ) -> None:
        """Start writing; waits for the one before it, of which there should be none left."""
        self.wait()
        path = self.folder / f"iteration-{iteration:08d}"
        partial = path.with_name(path.name + _PARTIAL)
        if self._world.rank == 0:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            _write(partial / "config.json", asdict(config))
            _write(partial / "run.json", state)
        dist.barrier(self.group)
        tensors = _tensors(model, optimizer)
        writer = self._writer(partial)
        if self.in_background:
            # On a CPU torch would write from the very tensors that the next step changes.
            tensors = _copied(tensors) if self._world.device.type == "cpu" else tensors
            future = dcp.async_save(tensors, storage_writer=writer, process_group=self.group)
            assert isinstance(future, Future)
            self._under_way = (path, future)
            return
        self._written(path, lambda: dcp.save(tensors, storage_writer=writer, process_group=self.group))

    def poll(self) -> None:
        """Finish a checkpoint that has been written meanwhile."""
        if self._under_way is not None and self._under_way[1].done():
            self.wait()

    def wait(self) -> None:
        """Until the checkpoint under way is whole."""
        if self._under_way is None:
            return
        path, future = self._under_way
        self._under_way = None
        self._written(path, future.result)

    def _written(self, path: Path, finish: Callable[[], Any]) -> None:
        try:
            finish()
        except (CheckpointException, OSError) as error:
            raise MarcoError(
                f"the checkpoint `{path}` could not be written: {error}",
                hint="make room, and start the run again: it goes on from the checkpoint before",
            ) from error
        # Rank 0 has gathered from every rank that its part is on disk before its own call returned.
        if self._world.rank == 0:
            partial = path.with_name(path.name + _PARTIAL)
            seal(partial)
            _replace(partial, path)
            _write(self.folder / "latest.new", path.name)
            (self.folder / "latest.new").replace(self.folder / "latest")
            _sync(self.folder)
            for old in sorted(p for p in self.folder.glob("iteration-*") if _NAME.fullmatch(p.name))[: -self.keep]:
                gone = old.with_name(old.name + _OLD)
                old.replace(gone)
                shutil.rmtree(gone)


def load(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None, *, steps: int) -> None:
    """Weights and moments into a model of the same sizes, however it and the checkpoint are sharded.

    `steps` are those the optimizer had taken. Raises RecipeError for a checkpoint that cannot be read or is of another
    model.
    """
    if optimizer is not None:
        for parameter in model.parameters():
            optimizer.state[parameter] = {
                "step": torch.tensor(float(steps)),
                **{name: torch.zeros_like(parameter) for name in MOMENTS},
            }
    try:
        dcp.load(_tensors(model, optimizer), storage_reader=FileSystemReader(path))
    except (CheckpointException, OSError, RuntimeError, ValueError, KeyError, EOFError) as error:
        said = str(error).strip().splitlines()
        raise RecipeError(
            f"the checkpoint `{path}` cannot be loaded: {said[-1] if said else type(error).__name__}",
            hint="it is damaged or of another model; take an older one, or a new run folder",
        ) from error


def _tensors(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> dict[str, Any]:
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()} | dict(model.named_buffers())
    if optimizer is None:
        return {"model": weights}
    moments = {
        name: {moment: optimizer.state[parameter][moment] for moment in MOMENTS}
        for name, parameter in model.named_parameters()
        if parameter in optimizer.state
    }
    return {"model": weights, "optimizer": moments}


def _copied(tensors: Any) -> Any:
    if isinstance(tensors, dict):
        return {name: _copied(value) for name, value in tensors.items()}
    if isinstance(tensors, DTensor):
        local = tensors.to_local().clone()
        mesh, placements = tensors.device_mesh, tensors.placements
        return DTensor.from_local(
            local, mesh, placements, run_check=False, shape=tensors.shape, stride=tensors.stride()
        )
    return tensors.clone()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, content: Any) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(content if isinstance(content, str) else json.dumps(content, indent=1))
        file.flush()
        os.fsync(file.fileno())


def _replace(path: Path, by: Path) -> None:
    """Give a folder its name for good; one that has it is an earlier writing of the same iteration."""
    if by.exists():
        gone = by.with_name(by.name + _OLD)
        by.replace(gone)
        shutil.rmtree(gone)
    _sync(path)
    path.replace(by)
    _sync(by.parent)


def _sync(folder: Path) -> None:
    at = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(at)
    finally:
        os.close(at)
