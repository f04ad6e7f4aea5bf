"""How fast the kernels are, beside their twins in Python and datatrove's filters: `python benchmarks/kernels.py`.

In: documents as JSON lines with `text` (`--file`, .zst or plain), or the sample's text of `--language`. Out: a line
a part with MB/s of UTF-8, the median of `--runs` runs of process time, so that a busy machine distorts less. The
twins and datatrove run once. datatrove's filters get our words, so that none of its tokenisers need be installed.
"""

import argparse
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

ROOT = Path(__file__).resolve().parents[1]
START = """
import time; t = time.perf_counter()
import pyarrow as pa
from marco_data.languages import canonical
from marco_data.step import Tools
from marco_data.steps.measure_quality import MeasureQuality
from marco_data.steps.sign import Sign
for step in (MeasureQuality(), Sign()):
    step.bind(canonical("en"), Tools())(pa.record_batch({"text": ["one two"]}))
print(time.perf_counter() - t)
"""


def texts(language: str, file: Path | None) -> list[str]:
    if file is None:
        from marco_data.languages import canonical

        return [(ROOT / "recipes" / "sample" / "text" / f"{canonical(language).code}.txt").read_text("utf-8")] * 20
    import zstandard

    with file.open("rb") as raw:
        plain = zstandard.ZstdDecompressor().stream_reader(raw) if file.suffix == ".zst" else raw
        return [json.loads(line)["text"] for line in io.TextIOWrapper(plain, "utf-8")]


def seconds(call: Callable[[], object], runs: int) -> float:
    """The median of `runs` runs, in seconds of process time, after one that compiles."""
    if runs > 1:
        call()
    took = []
    for _ in range(runs):
        start = time.process_time()
        call()
        took.append(time.process_time() - start)
    return statistics.median(took)


def parts(documents: list[str], code: str, runs: int) -> dict[str, float]:
    """Seconds of each part by name."""
    from datatrove.data import Document
    from datatrove.pipeline.filters import FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter

    from marco_data import words
    from marco_data.kernels import minhash
    from marco_data.languages import canonical
    from marco_data.quality_metrics import quality_metrics
    from marco_data.step import Tools
    from marco_data.steps.datatrove_filter import _our_words
    from marco_data.steps.measure_quality import MeasureQuality, stop_words_of
    from marco_data.steps.sign import Sign

    language = canonical(code)
    batch = pa.record_batch({"text": pa.array(documents, pa.string())})
    column = words.texts_of(batch.column("text"))
    quality, sign = (step.bind(language, Tools()) for step in (MeasureQuality(), Sign()))
    hashes, bounds = Sign().shingler(language)(column)
    stops = stop_words_of(language.code)

    def fresh(*steps: Callable[[pa.RecordBatch], object]) -> None:
        words.forget()
        for step in steps:
            step(batch)

    def find() -> None:
        words.forget()
        words.find_words(column, language)

    def twin() -> None:
        for text in documents:
            quality_metrics(text, words.split_words(text, language), stops, 30)

    def peer(kind: type) -> Callable[[], object]:
        judge = kind(language=_our_words(language)).filter
        return lambda: [judge(Document(text=text, id="")) for text in documents]

    return {
        "words": seconds(find, runs),
        "measure_quality, words known": seconds(lambda: quality(batch), runs),
        "sign, words known": seconds(lambda: sign(batch), runs),
        "signatures alone": seconds(lambda: minhash.signatures(hashes, bounds, *minhash.permutations(112)), runs),
        "measure_quality + sign": seconds(lambda: fresh(quality, sign), runs),
        "twin: split_words": seconds(lambda: [words.split_words(text, language) for text in documents], 1),
        "twin: split_words + quality_metrics": seconds(twin, 1),
        "datatrove GopherRepetitionFilter": seconds(peer(GopherRepetitionFilter), 1),
        "datatrove GopherQualityFilter": seconds(peer(GopherQualityFilter), 1),
        "datatrove FineWebQualityFilter": seconds(peer(FineWebQualityFilter), 1),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--language", default="en")
    options.add_argument("--file", type=Path)
    options.add_argument("--runs", type=int, default=5)
    given = options.parse_args()
    documents = texts(given.language, given.file)
    megabytes = sum(len(text.encode()) for text in documents) / 1e6
    load = os.getloadavg()[0]
    print(f"{len(documents)} documents, {megabytes:.1f} MB; {os.cpu_count()} cores, load {load:.1f}, ", end="")
    print(f"Python {platform.python_version()}")
    for name, took in parts(documents, given.language, given.runs).items():
        print(f"{name:<40}{megabytes / took:>9.1f} MB/s")
    for state in ("first process after these", "another"):
        answer = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, check=True).stdout
        print(f"start-up, {state}: {float(answer):.2f} s")


if __name__ == "__main__":
    main()
