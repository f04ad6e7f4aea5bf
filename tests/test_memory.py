"""Memory is bounded by the sizes in a recipe, not by the input: ten times the documents need no more of it."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from roots import environment
from small_corpus import prose, recipe_values, write_recipe

CODES = ("eng_Latn", "deu_Latn", "fra_Latn", "rus_Cyrl")
MIB = 1 << 20

# The peak of the process itself, printed where nothing else is. Not getrusage: its peak survives exec.
MEASURED = """
import re, sys
from pathlib import Path
from marco_data.cli import main
try:
    main()
finally:
    print(re.search(r"VmHWM:\\s+([0-9]+)", Path("/proc/self/status").read_text())[1], file=sys.stderr)
"""


def write_documents(path: Path, size: int) -> int:
    """At least `size` bytes of documents, each unlike all others; how many there are.

    The sample's prose with every other word exchanged for one of the same language: no two shingles agree.
    """
    draw = random.Random(0)
    texts = {code: [text.split(" ") for text in prose(code)] for code in CODES}
    words = {code: [word for text in texts[code] for word in text] for code in CODES}
    count = written = 0
    with path.open("wb") as file:
        while written < size:
            code = CODES[count % len(CODES)]
            text = list(draw.choice(texts[code]))
            text[::2] = draw.choices(words[code], k=len(text[::2]))
            line = json.dumps({"id": f"{count}", "text": " ".join(text)}, ensure_ascii=False).encode() + b"\n"
            written += file.write(line)
            count += 1
    return count


def peak_mib(folder: Path, size: int) -> float:
    """Peak memory of a whole build of `size` bytes, MiB, in one process."""
    folder.mkdir()
    documents = write_documents(folder / "web.jsonl", size)
    values = recipe_values(folder) | {
        "sources": {"web": {"paths": [str(folder / "web.jsonl")], "fields": {"id": "id"}}},
        "mixture": {"web": {"weight": 1}},
        "shards": {"bytes": 2 * MIB, "tokens": 500_000},
    }
    recipe = write_recipe(folder / "recipe.yaml", values)
    arguments = ["build-stage", "3", "--recipe", str(recipe), "--root", str(folder / "out"), "--executor", "local"]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *arguments, "--json"],
        env=environment(folder), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    stats = json.loads(done.stdout)
    assert stats["documents"]["read"] == documents
    assert stats["documents"]["kept"] > documents / 2
    return int(done.stderr.split()[-1]) / 1024


@pytest.mark.slow
def test_peak_memory_is_flat_when_the_input_grows_tenfold(tmp_path):
    small, large = peak_mib(tmp_path / "small", 4 * MIB), peak_mib(tmp_path / "large", 40 * MIB)
    print(f"peak memory: {small:.0f} MiB for 4 MiB of documents, {large:.0f} MiB for 40 MiB")
    assert large < 1.15 * small
