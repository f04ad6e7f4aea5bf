"""How good a language model is: labelled text in, F1, confusions and what is rejected out.

    python -m marco_data.languages.evaluate --lines FILE.tsv [--model embedded]
    python -m marco_data.languages.evaluate --documents FILE.jsonl[.zst]
    python -m marco_data.languages.evaluate --held-out FOLDER
    python -m marco_data.languages.evaluate --no-language [FILE_OR_FOLDER ...]

FILE.tsv holds a label and a text a line, tab-separated (with a header line, its `label` and `text` columns, and its
`length` column for figures by length). Documents have `text` and `label` or `language`; of `--held-out` those that
training left out. `--no-language` makes up code, filler and noise from what training did not see; of files of code it
takes snippets. Only prediction: nothing here trains or chooses.
"""

import argparse
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from marco_data.errors import RecipeError
from marco_data.languages import LANGUAGES, from_label, no_language
from marco_data.languages.labelled import Document, is_held_out, read_documents
from marco_data.languages.model import load_model, model_facts
from marco_data.step import Tools

Pairs = Mapping[tuple[str, str], int]  # (true label, predicted label) -> lines

LONG = 50  # characters from which a line is long enough to be told safely
SNIPPET = 6  # lines of code

# Prose in code: lines and blocks of comment of the C, CMake, Python, shell, SQL, Lisp and Perl kinds, and docstrings.
_COMMENT = re.compile(
    r'/\*.*?\*/|#\[(=*)\[.*?\]\1\]|"""[^"].*?"""|^=\w+.*?^=cut|^__END__.*'
    r"|^[ \t]*(?:#(?!\s*(?:include|define|if|endif|el))|//|--|;|%).*?$",
    re.DOTALL | re.MULTILINE,
)

FAMILIES = (
    ("zsm_Latn", "ind_Latn", "jav_Latn"),
    ("hrv_Latn", "slv_Latn", "srp_Cyrl", "bos_Latn", "srp_Latn"),
    ("nob_Latn", "dan_Latn", "swe_Latn", "nno_Latn"),
    ("glg_Latn", "por_Latn", "spa_Latn", "cat_Latn"),
    ("ces_Latn", "slk_Latn"),
    ("hin_Deva", "mar_Deva", "npi_Deva"),
    ("urd_Arab", "fas_Arab", "arb_Arab", "arz_Arab"),
    ("zul_Latn", "xho_Latn", "ssw_Latn"),
    ("azj_Latn", "tur_Latn", "tuk_Latn"),
    ("rus_Cyrl", "ukr_Cyrl", "bul_Cyrl", "bel_Cyrl", "mkd_Cyrl"),
    ("zho_Hans", "zho_Hant", "yue_Hant"),
    ("fil_Latn", "ceb_Latn"),
)
"""Languages that models take for one another."""


class Answer(NamedTuple):
    """What a model said of one text."""

    truth: str
    label: str
    kept: bool  # one of our languages, with its threshold's score at least
    characters: int


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


def pairs_of(answers: Iterable[Answer]) -> Pairs:
    """How often each of our labels was given each answer."""
    return Counter((a.truth, a.label) for a in answers if a.truth in LANGUAGES)


def read_lines(file: Path) -> Iterator[tuple[str, str]]:
    """(label, text) of each line, labels in our codes where they are ours."""
    for label, text, _ in _rows(file):
        yield label, text


def _rows(file: Path) -> Iterator[tuple[str, str, str]]:
    """(label, text, length) of each line; length is empty where the file has no such column."""
    rows = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()]
    label, text, length = 0, 1, None
    if rows and {"label", "text"} <= set(rows[0]):
        label, text = rows[0].index("label"), rows[0].index("text")
        length = rows[0].index("length") if "length" in rows[0] else None
        rows = rows[1:]
    for number, row in enumerate(rows, 1):
        if len(row) <= max(label, text, length or 0):
            raise RecipeError(f"{file}: row {number} has no label and text", hint="one label, tab, text a line")
        yield from_label(row[label]), row[text], row[length] if length is not None else ""


def evaluate(lines: Iterable[tuple[str, str]], model: str = "embedded", tools: Tools | None = None) -> Pairs:
    """How often each label was given each answer."""
    return Counter((answer.truth, answer.label) for answer in answers(lines, model, tools))


def answers(lines: Iterable[tuple[str, str]], model: str = "embedded", tools: Tools | None = None) -> list[Answer]:
    """What the model says of each (label, text). A model without thresholds keeps all it labels ours."""
    truths, texts = zip(*lines, strict=True) if (lines := list(lines)) else ((), ())
    tools = tools or Tools()
    found, scores = load_model(model, tools).predict_all(pa.array(texts, pa.string()))
    least = (model_facts(model, tools) or {}).get("thresholds", {})
    return [
        Answer(truth, label, label in LANGUAGES and bool(score >= least.get(label, 0.0)), len(text))
        for truth, text, label, score in zip(truths, texts, found.to_pylist(), scores, strict=True)
    ]


def snippets(path: Path) -> list[str]:
    """A file of code, or all in a folder, without comments, as pieces of SNIPPET lines."""
    found = []
    for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        code = _COMMENT.sub("", file.read_text(encoding="utf-8", errors="replace"))
        lines = [line for line in code.splitlines() if line.strip()]
        found += ["\n".join(lines[at : at + SNIPPET]) for at in range(0, len(lines), SNIPPET)]
    return found


def report_lines(file: Path, model: str) -> Iterator[str]:
    """Figures of a file of lines: of all, of the long ones, by the file's own `length`; rejections; confusions."""
    rows = list(_rows(file))
    said = answers(((label, text) for label, text, _ in rows), model)
    by_length: dict[str, list[Answer]] = defaultdict(list)
    for (_, _, length), answer in zip(rows, said, strict=True):
        by_length[length].append(answer)
    parts = {"all lines": said, f"{LONG} characters and more": [a for a in said if a.characters >= LONG]}
    if len(by_length) > 1:
        parts |= {f"length `{length}`": by_length[length] for length in sorted(by_length)}
    for name, part in parts.items():
        pairs = pairs_of(part)
        yield f"macro-F1 {macro_f1(pairs):.4f} over {len(f1(pairs))} languages, {sum(pairs.values())} lines: {name}"
        yield from _rejected([a for a in part if a.truth not in LANGUAGES])
    pairs = pairs_of(said)
    yield "weakest:"
    yield from (f"  {label} {score:.3f}" for label, score in sorted(f1(pairs).items(), key=lambda item: item[1])[:10])
    yield "most often taken for another:"
    for (label, other), lines in Counter({k: n for k, n in pairs.items() if k[0] != k[1]}).most_common(15):
        yield f"  {lines:4d} {label} as {other}"
    yield "confusable families, lines (row) by answer:"
    yield from _families(Counter((a.truth, a.label) for a in said))


def _rejected(said: Sequence[Answer]) -> Iterator[str]:
    """Of text in none of our languages, by its label, the share that none of them gets."""
    by_label: dict[str, list[Answer]] = defaultdict(list)
    for answer in said:
        by_label[answer.truth].append(answer)
    for label, of in sorted(by_label.items()):
        taken = Counter(a.label for a in of if a.kept)
        rejected = len(of) - taken.total()
        as_what = ", ".join(f"{n} as {name}" for name, n in taken.most_common(3))
        yield f"  rejected {rejected / len(of):.4f} of {len(of)} {label}" + (f"; kept {as_what}" if as_what else "")


def _families(pairs: Pairs) -> Iterator[str]:
    true = {label for label, _ in pairs}
    for family in FAMILIES:
        rows = [label for label in family if label in true]
        if not any(label in LANGUAGES for label in rows):
            continue
        yield "  " + " ".join(f"{name:>9}" for name in ("", *family, "another"))
        for label in rows:
            counts = [pairs.get((label, answer), 0) for answer in family]
            other = sum(n for (truth, _), n in pairs.items() if truth == label) - sum(counts)
            yield "  " + " ".join(f"{cell:>9}" for cell in (label, *counts, other))


def report_documents(documents: Sequence[Document], model: str) -> Iterator[str]:
    """Share right and macro-F1 of documents of our languages, what is rejected of the others."""
    said = answers(((d.label, d.text) for d in documents), model)
    ours = [a for a in said if a.truth in LANGUAGES]
    wrong = Counter((a.truth, a.label) for a in ours if a.label != a.truth)
    if ours:
        yield (
            f"right {1 - wrong.total() / len(ours):.4f}, macro-F1 {macro_f1(pairs_of(ours)):.4f}, {len(ours)} documents"
        )
    yield from (f"  {n:4d} {label} as {answer}" for (label, answer), n in wrong.most_common(15))
    yield from _rejected([a for a in said if a.truth not in LANGUAGES])


def report_no_language(files: Sequence[Path], model: str, seed: int, count: int = 2_000) -> Iterator[str]:
    """What is rejected of text in no language: made up of what training did not see, and snippets of these files."""
    lines = []
    for label, make in no_language.KINDS.items():
        chance = random.Random(f"{seed}/{label}/evaluate")
        lines += [(label, make(chance, True)) for _ in range(count)]
    for path in files:
        lines += [(path.name, text) for text in snippets(path)]
    yield from _rejected(answers(lines, model))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=Path, nargs="*", default=[], help="labelled lines, `.tsv`")
    parser.add_argument("--documents", type=Path, nargs="*", default=[], help="labelled documents, files or folders")
    parser.add_argument("--held-out", type=Path, nargs="*", default=[], help="the same, only what training left out")
    parser.add_argument("--no-language", type=Path, nargs="*", help="text in no language; files or folders of code")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--seed", type=int, default=1, help="of the text made up by --no-language")
    arguments = parser.parse_args()
    reports = [(file, report_lines(file, arguments.model)) for file in arguments.lines]
    reports += [(path, report_documents(read_documents(path), arguments.model)) for path in arguments.documents]
    for path in arguments.held_out:
        kept = [d for d in read_documents(path) if is_held_out(d.id)]
        reports.append((path, report_documents(kept, arguments.model)))
    if arguments.no_language is not None:
        files = arguments.no_language
        reports.append((Path("no language"), report_no_language(files, arguments.model, arguments.seed)))
    for name, report in reports:
        print(f"{name}:")
        print("\n".join(report))


if __name__ == "__main__":
    main()
