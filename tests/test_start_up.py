"""What a worker loads before its first document: neither the compiler nor what other kinds of work need."""

import os
import subprocess
import sys
from pathlib import Path

import marco_data

HEAVY = ("ray", "transformers", "trafilatura", "fasttext", "tokenizers", "numba.np.linalg")

PASS = """
import sys
from pathlib import Path
from marco_data.nodes.measure import Measure
from marco_data.sources import Source, list_files, split
from marco_data.step import Tools
from marco_data.steps.identify_language import IdentifyLanguage
from marco_data.steps.measure_quality import MeasureQuality
from marco_data.steps.normalize import Normalize
from marco_data.steps.sign import Sign
from marco_data.storage import Storage
folder = Path(sys.argv[1])
source = Source(paths=(str(folder / "text.jsonl"),))
(part,) = split(list_files("web", source), 1 << 20)
steps = (Normalize(), IdentifyLanguage(), MeasureQuality(), Sign())
bounds = {"shard_bytes": 1 << 20, "max_document_bytes": 1 << 20, "floor": 0.2, "keep_dropped": 0.0}
node = Measure(sources={"web": source}, steps=steps, languages=(), **bounds)
print(node.measure("web", source, part, "shard", Storage(str(folder)), Tools()).data[0].rows)
print(*sys.modules)
"""


def test_the_first_document_of_a_later_process_needs_no_compiler_and_nothing_of_others(tmp_path):
    (tmp_path / "text.jsonl").write_text('{"text": "The first document of a process."}\n')
    root = str(Path(marco_data.__file__).parents[1])
    for _ in range(2):  # the first may find nothing compiled
        done = subprocess.run(
            [sys.executable, "-c", PASS, str(tmp_path)],
            check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": root},
        )  # fmt: skip
    rows, modules = done.stdout.splitlines()
    assert rows == "1"
    assert set(modules.split()).isdisjoint(HEAVY)
