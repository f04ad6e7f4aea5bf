"""Make the sample's recorded completions: `python recipes/sample/make_completions.py [--out FOLDER]`.

In: `generation/*.yaml` (what a model might answer, written by people, and the verdict it deserves) and the seeds of
`stage4.yaml`, read by the steps that every build reads them by. Out: `generation/completions.jsonl`, each answer under
the key of the request that the real maker sends for it, and `generation/expected.jsonl`, a line for each wanted
document. Stops with a list of every request without an answer, every answer that nothing asks for, and every document
that its maker judges otherwise. The same text gives the same bytes.

Tokens are counted by the sample's tokenizer. `[[an option]]` in an answer is the letter that its prompt shows the
option under.
"""

import argparse
import asyncio
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from marco_data.dataset import Dataset
from marco_data.execute import LocalExecutor, Silent, run
from marco_data.generation.entry import Entry
from marco_data.generation.generator import LENGTH, STOP, Completion, Request
from marco_data.generation.maker import Seed
from marco_data.generation.recorded import write_recorded
from marco_data.languages import LANGUAGES, canonical
from marco_data.nodes.decide import Decide
from marco_data.nodes.measure import Measure
from marco_data.recipe import Recipe, load_recipe
from marco_data.storage import Storage
from marco_data.tokenizer import Tokenizer

HERE = Path(__file__).resolve().parent
WRITTEN = ("rephrase", "qa", "stem", "mcq")
ACCEPTED = "accepted"

_OPTION = re.compile(r"\[\[([^\[\]]+)\]\]")


@dataclass
class Document:
    """A wanted document: its answers by prompt in the order they are asked for, and how many of them were."""

    entry: str
    seed: str
    language: str
    verdict: str
    answers: dict[str, list[Any]]
    asked: dict[str, int] = field(default_factory=dict)

    @property
    def named(self) -> str:
        return f"{self.entry} of {self.seed} in {self.language}"

    def expected(self) -> dict[str, str]:
        line = {"entry": self.entry, "seed": self.seed, "language": self.language}
        if self.verdict == ACCEPTED:
            return {**line, "verdict": ACCEPTED}
        return {**line, "verdict": "rejected", "reason": self.verdict}


def written(folder: Path) -> Iterator[Document]:
    """Every wanted document of the files in `folder`."""
    for name in WRITTEN:
        for item in yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8")):
            answers = item["answers"] if isinstance(item["answers"], dict) else {"": item["answers"]}
            language = canonical(item["language"]).code
            yield Document(item["entry"], item["seed"], language, item["verdict"], answers)


def seeds_of(recipe: Recipe) -> dict[str, list[tuple[str, Seed]]]:
    """The seeds that each entry of `generate` has, by the entry's name, each with the name it is found by."""
    names = {name for entry in recipe.generate.values() for name in entry.seeds.sources or recipe.sources}
    plan = recipe.pipeline_function()(recipe)
    every, decide = plan.node("measure"), plan.node("decide")
    assert isinstance(every, Measure)
    assert isinstance(decide, Decide)
    measure = replace(every, sources={name: recipe.sources[name] for name in sorted(names)})
    found: dict[str, list[tuple[str, Seed]]] = {name: [] for name in recipe.generate}
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage(folder)
        read = Dataset().then(measure).then(replace(decide, measure=measure))
        done = run(read, storage, LocalExecutor(), Silent()).records
        for measured, decided in zip(done["measure"], done["decide"], strict=True):
            rows = storage.read_table(measured.data[0].path).to_pylist()
            verdicts = storage.read_table(decided.data[0].path).to_pylist()
            for row, verdict in zip(rows, verdicts, strict=True):
                for name, entry in recipe.generate.items():
                    if chosen(verdict, entry):
                        seed = Seed(
                            row["id"], row["text"], verdict["language"], row["source"], row["url"], row["licence"]
                        )
                        found[name].append((row["source_id"] or row["url"], seed))
    return found


def chosen(verdict: Mapping[str, Any], entry: Entry) -> bool:
    """Whether a document of these verdicts may be a seed of `entry`. Nothing here is a copy of something else."""
    seeds = entry.seeds
    return (
        verdict["failed"] is None
        and verdict["reason"] is None
        and verdict["language"] in entry.seed_languages()
        and (seeds.sources is None or verdict["source"] in seeds.sources)
        and seeds.quality_tier in (None, verdict["quality_tier"])
    )


class Book:
    """The answers that were asked for so far, as lines of the file of recorded completions."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.tokenizer = Tokenizer.load(Path(recipe.tokenizer.path), recipe.tokenizer.end_of_document)
        self.rows: list[dict[str, Any]] = []
        self.wrong: list[str] = []

    def tokens(self, *texts: str) -> int:
        return len(self.tokenizer.encode_flat(texts)[0]) - len(texts)

    async def make(self, name: str, seed: Seed, document: Document) -> None:
        """Have the maker make the document of the written answers, and note what it asks for."""
        entry = self.recipe.generate[name]
        model = self.recipe.generators[entry.generator]

        async def ask(request: Request) -> Completion:
            answer = self.answer(document, request)
            if answer is None:
                return Completion("", "error", error="not_recorded")
            spent = self.tokens(*(text for _, text in request.messages)), self.tokens(answer.text)
            row = {
                "key": request.key(model.model, model.revision),
                "prompt": request.prompt,
                "text": answer.text,
                "finish_reason": answer.finish_reason,
                "tokens_in": spent[0],
                "tokens_out": spent[1],
                "seed": document.seed,
                "language": document.language,
            }
            self.rows.append(row)
            return Completion(answer.text, answer.finish_reason, *spent)

        made = await entry.make.make(seed, LANGUAGES[document.language], 0, ask, 0)
        if (made.reason or ACCEPTED) != document.verdict:
            measured = "" if made.measured is None else f" ({made.measured})"
            more = "".join(f", {key} {value}" for key, value in made.labels.items())
            self.wrong.append(f"{document.named}: {made.reason}{measured}{more}, not {document.verdict}")

    def answer(self, document: Document, request: Request) -> Completion | None:
        prompt = request.prompt if request.prompt in document.answers else ""
        number = document.asked.get(prompt, 0)
        document.asked[prompt] = number + 1
        answers = document.answers.get(prompt, [])
        if number >= len(answers):
            self.wrong.append(f"{document.named}: no answer number {number + 1} to {request.prompt}")
            return None
        answer = answers[number]
        whole = answer if isinstance(answer, dict) else {"completion": answer}
        shown = request.messages[-1][1]
        text = _OPTION.sub(lambda found: self.letter(document, found[1], shown), whole["completion"])
        return Completion(text, LENGTH if whole.get("finish") == "length" else STOP)

    def letter(self, document: Document, option: str, shown: str) -> str:
        found = re.search(rf"^([A-D])\. {re.escape(option)}$", shown, re.MULTILINE)
        if found is None:
            self.wrong.append(f"{document.named}: no option `{option}` in the prompt")
            return option
        return found[1]


def make(out: Path, folder: Path = HERE / "generation") -> list[str]:
    """Write both files below `out`; or say what is wrong with what is written in `folder`."""
    recipe = load_recipe(HERE / "stage4.yaml")
    documents = list(written(folder))
    by_name = {(d.entry, d.seed, d.language): d for d in documents}
    book = Book(recipe)
    if len(by_name) < len(documents):
        book.wrong.append("a document is written twice")
    wanted = set()
    for name, seeds in seeds_of(recipe).items():
        for found_by, seed in sorted(seeds, key=lambda pair: pair[0]):
            for language in recipe.generate[name].wanted_from(seed.language):
                wanted.add((name, found_by, language))
                if (name, found_by, language) not in by_name:
                    book.wrong.append(f"nothing is written for {name} of {found_by} in {language}")
                    continue
                asyncio.run(book.make(name, seed, by_name[name, found_by, language]))
    for key, document in by_name.items():
        if key not in wanted:
            book.wrong.append(f"{document.named}: no such document is wanted")
            continue
        for prompt, answers in document.answers.items():
            if document.asked.get(prompt, 0) < len(answers):
                book.wrong.append(
                    f"{document.named}: {prompt or 'its prompt'} asks for less than {len(answers)} answers"
                )
    if not book.wrong:
        out.mkdir(parents=True, exist_ok=True)
        write_recorded(out / "completions.jsonl", book.rows)
        lines = [json.dumps(document.expected(), ensure_ascii=False) for document in documents]
        (out / "expected.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
    return book.wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "generation")
    wrong = make(parser.parse_args().out)
    raise SystemExit("\n".join(wrong) if wrong else 0)
