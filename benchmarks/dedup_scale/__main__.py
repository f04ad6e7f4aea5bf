"""`python -m benchmarks.dedup_scale`: time deduplication, write `benchmarks/DEDUP_SCALE.md`.

    --documents 1e5,1e6,1e7 --peers-up-to 1e6     the whole: about an hour of two quiet cores, 25 GB of disk
    --documents 1e5 --peers-up-to 0               a minute; printed, and written only where --out says

Corpora are made under --root, and found there again by size and seed; they are removed in the end unless --keep is
given or they were there before. Linux only: what processes take is read from /proc.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.apart.environment import default_folder
from benchmarks.dedup_scale.corpus import WORKERS, Corpus, corpus, make, short
from benchmarks.dedup_scale.nodes import Times, timed
from benchmarks.dedup_scale.peers import Limits, Peer, PeerTimes, peers, run_peer
from benchmarks.dedup_scale.report import Measured, Ours, report
from benchmarks.dedup_scale.truth import dropped_by_us, found

REPORT = Path(__file__).parents[1] / "DEDUP_SCALE.md"
WHOLE = "1e5,1e6,1e7"
START = 2_000
"""Documents of the corpus that shows what starting costs."""

REPEATED = 100_000
"""Up to so many documents a run is repeated: it is over in seconds, and what it took is divided by little."""


def main() -> None:
    arguments = _arguments()
    load = os.getloadavg()
    with ExitStack() as stack:
        folder = arguments.root or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="marco-data-scale-")))
        sizes = [int(float(size)) for size in arguments.documents.split(",")]
        corpora = [corpus(folder, size, arguments.seed) for size in (START, *sorted(sizes))]
        for one in corpora:
            if not arguments.keep and one.made() is None:
                stack.callback(shutil.rmtree, one.folder, ignore_errors=True)
            _say(f"{short(one.documents)}: {make(one)}")
        repeats, workers = arguments.repeats, arguments.workers
        timed(folder, corpora[0], workers)  # compiles the kernels
        start = _goes(folder, corpora[0], repeats, workers)
        ours = [_ours(folder, one, repeats, workers) for one in corpora[1:]]
        limits = Limits(arguments.most_gigabytes * 1e9, arguments.most_minutes * 60)
        up_to = float(arguments.peers_up_to)
        others = [
            _peer(peer, one, workers, limits)
            for one in corpora[1:]
            if one.documents <= up_to
            for peer in peers(arguments.peers or default_folder())
        ]
    command = "python -m benchmarks.dedup_scale" + "".join(f" {argument}" for argument in _shown(sys.argv[1:]))
    text = report(Measured(command, workers, start, ours, others, limits, (load, os.getloadavg())))
    print(text)
    out = arguments.out or (REPORT if arguments.documents == WHOLE else None)
    if out:
        out.write_text(text, "utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.dedup_scale", description="Deduplication by size.")
    parser.add_argument("--documents", default=WHOLE, help=f"sizes of corpora ({WHOLE})")
    parser.add_argument("--root", type=Path, help="where corpora are made and found (a temporary folder)")
    parser.add_argument("--keep", action="store_true", help="leave the corpora that this run makes")
    parser.add_argument("--seed", type=int, default=1, help="of the texts (1)")
    parser.add_argument("--repeats", type=int, default=3, help="goes over corpora of up to 1e5 documents (3)")
    parser.add_argument("--workers", type=int, default=WORKERS, help=f"processes at once ({WORKERS})")
    parser.add_argument(
        "--peers-up-to", default="1e6", metavar="DOCUMENTS", help="the peers get corpora of these (1e6)"
    )
    parser.add_argument("--peers", type=Path, metavar="FOLDER", help="environments of peers (in the user's cache)")
    parser.add_argument("--most-gigabytes", type=float, default=10, help="that a peer may hold (10)")
    parser.add_argument("--most-minutes", type=float, default=60, help="that a peer may take (60)")
    parser.add_argument("--out", type=Path, help="where to write; a whole run writes benchmarks/DEDUP_SCALE.md")
    return parser.parse_args()


def _goes(folder: Path, one: Corpus, repeats: int, workers: int) -> Sequence[Times]:
    return [timed(folder, one, workers) for _ in range(repeats if one.documents <= REPEATED else 1)]


def _ours(folder: Path, one: Corpus, repeats: int, workers: int) -> Ours:
    goes = _goes(folder, one, repeats, workers)
    result = Ours(make(one), goes, found(one.planted(), dropped_by_us(one)))
    _say(f"marco-data, {short(one.documents)}: {result.times.seconds:.1f} s; found {result.found.recall:.3%}")
    return result


def _peer(peer: Peer, one: Corpus, workers: int, limits: Limits) -> PeerTimes:
    times = run_peer(peer, one, workers, limits)
    _say(f"{peer.name}, {short(one.documents)}: {times.failed or f'{times.seconds:.1f} s'}")
    return times


def _shown(arguments: Sequence[str]) -> list[str]:
    """A command line without this machine's folders."""
    return [Path(argument).name if "/" in argument else argument for argument in arguments]


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
