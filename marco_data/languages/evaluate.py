"""How good a language model is: labelled lines in, F1 by language and what was taken for what out.

    python -m marco_data.languages.evaluate --lines FILE.tsv [--model embedded]

FILE.tsv holds a label and a text a line, tab-separated (with a header line, its `label` and `text` columns). Only
prediction: nothing here trains or chooses.
"""

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pyarrow as pa

from marco_data.errors import RecipeError
from marco_data.languages import LANGUAGES, from_label
from marco_data.languages.model import load_model
from marco_data.step import Tools

Pairs = Mapping[tuple[str, str], int]  # (true label, predicted label) -> lines


def f1(pairs: Pairs) -> dict[str, float]:
    """F1 of each of our languages that has a line; lines of other languages count against what they were taken for."""
    true, said = Counter[str](), Counter[str]()
    for (label, answer), lines in pairs.items():
        true[label] += lines
        said[answer] += lines
    return {
        label: 2 * pairs.get((label, label), 0) / (true[label] + said[label])
        for label in sorted(true)
        if label in LANGUAGES
    }


def macro_f1(pairs: Pairs) -> float:
    """The mean of `f1`, each language weighing the same; 4 decimals."""
    scores = f1(pairs)
    return round(sum(scores.values()) / len(scores), 4) if scores else 0.0


def read_lines(file: Path) -> Iterator[tuple[str, str]]:
    """(label, text) of each line, labels in our codes where they are ours."""
    rows = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()]
    label, text = 0, 1
    if rows and {"label", "text"} <= set(rows[0]):
        label, text = rows[0].index("label"), rows[0].index("text")
        rows = rows[1:]
    for number, row in enumerate(rows, 1):
        if len(row) <= max(label, text):
            raise RecipeError(f"{file}: row {number} has no label and text", hint="one label, tab, text a line")
        yield from_label(row[label]), row[text]


def evaluate(lines: Iterable[tuple[str, str]], model: str = "embedded", tools: Tools | None = None) -> Pairs:
    """How often each label was given each answer."""
    labels, texts = zip(*lines, strict=True) if (lines := list(lines)) else ((), ())
    found, _ = load_model(model, tools or Tools()).predict_all(pa.array(texts, pa.string()))
    return Counter(zip(labels, found.to_pylist(), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=Path, required=True)
    parser.add_argument("--model", default="embedded")
    arguments = parser.parse_args()
    pairs = evaluate(read_lines(arguments.lines), arguments.model)
    print(f"macro-F1 {macro_f1(pairs):.4f} over {len(f1(pairs))} languages, {sum(pairs.values())} lines")
    for label, score in sorted(f1(pairs).items(), key=lambda item: item[1])[:10]:
        print(f"  {label} {score:.3f}")
    print("most often taken for another:")
    for (label, answer), lines in Counter({k: n for k, n in pairs.items() if k[0] != k[1]}).most_common(15):
        print(f"  {lines:4d} {label} as {answer}")


if __name__ == "__main__":
    main()
