"""What is built while faults strike: a stage 3 of sources and a stage 4 in which a model writes, over a small corpus.

In: a folder. Out: their recipes, each also with a document that crashes whoever looks at it, and the pools by which the
model is reached: a function of the tests. Documents, makers and fatal steps are the tests' own, found under `tests/`.
"""

import importlib
import sys
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[2] / "tests"
STAGES = (3, 4)
CRASHES_ON = "Unglücksdokument"
POOLS = {"tiny": {"kind": "scripted", "script": "generation_makers:model"}}


def of_tests(module: str, folder: str = "") -> Any:
    """A module of `tests/`, or of a folder there: it belongs to the checkout, as this package does."""
    for path in (str(TESTS), str(TESTS / folder)):
        if path not in sys.path:
            sys.path.append(path)
    return importlib.import_module(module)


def recipe_name(stage: int, crash: bool = False) -> str:
    return f"stage{stage}{'-crash' if crash else ''}.yaml"


def write_recipes(folder: Path, seconds: float = 0.0) -> None:
    """All of them, `pools.yaml` and the corpus; each document takes a step `seconds`, so that there is time to strike.

    Beside the corpus are near copies of three documents and the one that crashes: dedup has something to weigh.
    """
    small = of_tests("small_corpus")
    corpus = small.write_corpus(folder / "corpus")
    near = [
        {"id": f"near-{code}", "text": small.prose(code)[0].replace(" ", "  ", 3) + " " + small.prose(code)[1][:80]}
        for code in small.CODES[:3]
    ]
    fatal = {"id": "fatal", "text": f"{small.prose('deu_Latn')[3]} {CRASHES_ON}."}
    small.write_jsonl(corpus / "web" / "e.jsonl", [*near, fatal])
    for stage in STAGES:
        for crash in (False, True):
            small.write_recipe(folder / recipe_name(stage, crash), _values(small, corpus, stage, crash, seconds))
    small.write_recipe(folder / "pools.yaml", POOLS)


def _values(small: Any, corpus: Path, stage: int, crash: bool, seconds: float) -> dict[str, Any]:
    values: dict[str, Any] = small.recipe_values(corpus) | {"stage": stage}
    extra = [{"step": "fatal_steps:Sleeps", "arguments": {"seconds": seconds}}] if seconds else []
    if crash:
        extra.append({"step": "fatal_steps:DiesOn", "arguments": {"word": CRASHES_ON}})
        values["limits"] = {"failed_rows": 0.1}
    # Partitions of eight documents: the parts of dedup are several tasks each.
    values["steps"] |= {"dedup": {"partition": 8, "threshold": 0.6}, **({"extra": extra} if extra else {})}
    if stage == 4:
        seeds = {"sources": ["books"]}
        values["generators"] = {"tiny": {"model": "nobody/tiny", "revision": "0123456789abcdef"}}
        values["generate"] = {
            "rephrase": {
                "maker": "generation_makers:Reprint",
                "generator": "tiny",
                "languages": list(small.CODES),
                "seeds": seeds,
            },
            "qa": {
                "maker": "generation_makers:Translate",
                "generator": "tiny",
                "languages": ["tha_Thai", "zho_Hans"],
                "seeds": seeds,
            },
        }
        values["mixture"] |= {"rephrase": {"weight": 1}, "multilingual_qa": {"weight": 1}}
        values["steps"]["quality"] = {"exempt": ["multilingual_qa"]}
    return values
