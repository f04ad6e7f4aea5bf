"""One crawl, and the stages that are made of it: by our pipeline, as markup, and as text that nobody looked at.

In: the test data and a folder to work in. Out, in that folder: `stages.json` with the blends of each stage, the
tokenizer and `held_out.json`. All stages are read by the same trainer. The curated ones, 1 and 2 of a family, are what
`marco-data build-stage` makes of the crawl's files; the others are written here, straight from the crawl, with as many
tokens of each part as the curated stage 2 draws. Knows no model.
"""

import hashlib
import json
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import xxhash
import yaml
import zstandard

from benchmarks.proof import texts
from benchmarks.proof.noise import kind_of, planted
from benchmarks.proof.texts import Text
from marco_data.stage import find_stage
from marco_data.storage import Storage
from marco_data.tokenizer import END_OF_DOCUMENT, Tokenizer
from marco_data.tokens import ShardWriter, token_dtype

TOKENS = 1_500_000
"""That an arm is trained on, where nothing else is asked for."""
VOCABULARY = 4096
WEIGHTS = {"pages": 11, "web": 5, "texts": 84}
"""Per cent of a stage: what the pipeline keeps of each, roughly."""
MORE = 1.04
"""A stage's budget is more than is trained on: of each part and language the next document may not fit."""
HELD_OUT_TOKENS = 4000
"""Of each language, at least, in whole documents."""
FAMILY, CURATED, EARLIER, MARKUP, MATCHED = "proof", "curated", "earlier", "markup", "matched"
_COMMAND = (sys.executable, "-m", "marco_data.cli")

Documents = Mapping[tuple[str, str], Sequence[Text]]
"""By part and language; what has no known language is under `und`."""


def make(data: Path, folder: Path, tokens: int) -> dict[str, Any]:
    """Everything the arms need, once: what is there already is taken as it is."""
    done = folder / "stages.json"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        said = _made(data, folder, tokens)
        done.write_text(json.dumps(said, indent=1))
    found: dict[str, Any] = json.loads(done.read_text())
    if found["tokens"] != tokens:
        raise SystemExit(f"{folder} was made for {found['tokens']:,} tokens an arm: name another folder")
    return found


def _made(data: Path, folder: Path, tokens: int) -> dict[str, Any]:
    clean, web, pages = texts.clean(data), texts.web(data), texts.pages(data)
    crawl, noise = planted(clean[texts.TRAINING], texts.others(data))
    languages = texts.page_languages(data)
    markup = [Text(page.url, page.markup, languages.get(page.url, "")) for page in pages]
    visible = [Text(page.id, texts.visible_text(page.text), page.language) for page in markup]

    neutral = [document.text for document in clean[texts.TOKENIZER]]
    tokenizer = _tokenizer(folder, neutral, [page.text for page in markup])
    trained_on = [document.text for document in (*crawl, *web, *visible)]
    held_out = texts.without_twins(clean[texts.HELD_OUT], [*trained_on, *neutral])
    (folder / "held_out.json").write_text(json.dumps(_held_out(held_out, tokenizer)))

    stages = _curated(data, folder, crawl, web, tokens)
    blend = json.loads((Path(stages[CURATED]) / "blend.json").read_text())
    drawn: Counter[tuple[str, str]] = Counter()
    for share in blend["shares"]:
        drawn[share["part"], share["language"]] += share["drawn"]
    of_part: Counter[tuple[str, str]] = Counter()
    for (part, _), count in drawn.items():
        of_part[part, "all"] += count
    raw = {("pages", "all"): markup, ("web", "all"): web, ("texts", "all"): crawl}
    stages[MARKUP] = str(write_stage(folder / MARKUP, raw, of_part, tokenizer))
    matched = _by_language({"pages": visible, "web": web, "texts": crawl})
    stages[MATCHED] = str(write_stage(folder / MATCHED, matched, drawn, tokenizer))
    return {
        "tokens": tokens,
        "stages": stages,
        "noise": dict(noise),
        "crawl": {
            "texts": [len(crawl), _bytes(crawl)],
            "web": [len(web), _bytes(web)],
            "pages": [len(markup), _bytes(markup)],
        },
        "held_out": [len(clean[texts.HELD_OUT]), len(held_out)],
        "held_out_tokens": held_out_tokens(folder),
        "neutral_bytes": sum(len(text.encode()) for text in neutral),
        "drawn": [[part, language, count] for (part, language), count in sorted(drawn.items())],
        "markup_languages": drawn_languages(folder / MARKUP),
        "books": _stats(folder),
        "became": became(folder, [document.id for document in crawl]),
    }


def _bytes(documents: Iterable[Text]) -> int:
    return sum(len(document.text.encode()) for document in documents)


def _tokenizer(folder: Path, neutral: Sequence[str], markup: Sequence[str]) -> Tokenizer:
    """Of clean documents that nothing else uses, and as many bytes of the pages as they came, the first of each."""
    place = folder / "neutral"
    place.mkdir(exist_ok=True)
    room = sum(len(text.encode()) for text in neutral) // len(markup)
    for number, text in enumerate([*neutral, *(page.encode()[:room].decode(errors="ignore") for page in markup)]):
        (place / f"{number:05}.txt").write_text(text, "utf-8")
    file = folder / "tokenizer.json"
    _run("train-tokenizer", "--text", place, "--out", file, "--vocab-size", VOCABULARY)
    return Tokenizer.load(file)


def _held_out(documents: Sequence[Text], tokenizer: Tokenizer) -> dict[str, list[dict[str, Any]]]:
    """Whole documents of each language, in the order of their hashes, until there are tokens enough."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for document in sorted(documents, key=lambda one: xxhash.xxh3_64_intdigest(one.id.encode(), seed=3)):
        rows = found[document.language]
        if sum(len(row["ids"]) for row in rows) < HELD_OUT_TOKENS:
            (ids,) = tokenizer.encode_batch([document.text])
            rows.append({"id": document.id, "bytes": len(document.text.encode()), "ids": ids.tolist()})
    return dict(sorted(found.items()))


def held_out_tokens(folder: Path) -> dict[str, int]:
    """By language, of the documents that models are judged by."""
    found = json.loads((folder / "held_out.json").read_text())
    return {language: sum(len(row["ids"]) for row in rows) for language, rows in found.items()}


def _curated(data: Path, folder: Path, crawl: Sequence[Text], web: Sequence[Text], tokens: int) -> dict[str, str]:
    """Stages 1 and 2 as the pipeline makes them. No file tells it a language, and no step is switched off."""
    for name, documents in (("texts", crawl), ("web", web)):
        with zstandard.open(folder / f"{name}.jsonl.zst", "wt", encoding="utf-8") as file:
            for document in documents:
                file.write(json.dumps({"id": document.id, "text": document.text}, ensure_ascii=False) + "\n")
    root = folder / "root"
    for stage in (1, 2):
        recipe = {
            "family": FAMILY,
            "stage": stage,
            "tokenizer": {"path": "tokenizer.json", "end_of_document": END_OF_DOCUMENT},
            "budget": round(tokens * MORE),
            "languages": list(texts.LANGUAGES),
            "sources": {
                "pages": {"read": "warc", "paths": [str(file) for file in texts.page_files(data)]},
                "web": {"paths": ["web.jsonl.zst"], "fields": {"text": "text", "id": "id"}},
                "texts": {"paths": ["texts.jsonl.zst"], "fields": {"text": "text", "id": "id"}},
            },
            "mixture": {part: {"weight": weight} for part, weight in WEIGHTS.items()},
        }
        file = folder / f"stage{stage}.yaml"
        file.write_text(yaml.safe_dump(recipe, sort_keys=False))
        _run("build-stage", stage, "--recipe", file, "--root", root, "--executor", "local")
    return {name: str(root / _built(root, stage)) for name, stage in ((EARLIER, 1), (CURATED, 2))}


def _built(root: Path, stage: int) -> str:
    found = find_stage(Storage(str(root)), FAMILY, stage)
    if found is None or not found.complete:
        raise SystemExit(f"stage {stage} was not built in {root}")
    return found.folder


def _stats(folder: Path) -> dict[str, Any]:
    said = _run("stats", 2, "--family", FAMILY, "--root", folder / "root", "--json")
    found: dict[str, Any] = json.loads(said)
    return {"documents": found["documents"], "parts": found["parts"]}


def became(folder: Path, names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Of each kind of noise: how many documents passed, and how many each step dropped."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    words = ("why", "-", "--stage", 2, "--family", FAMILY, "--root", folder / "root", "--json")
    for line in _run(*words, given="\n".join(names)).splitlines():
        said = json.loads(line)
        step = (said["reason"] or "").partition("/")[0]
        found[kind_of(said["source_id"])]["passed" if step in ("", "mix") else step] += 1
    return {kind: dict(steps) for kind, steps in found.items()}


def _run(*words: Any, given: str = "") -> str:
    command = [*_COMMAND, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, input=given)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def _by_language(parts: Mapping[str, Sequence[Text]]) -> Documents:
    found: dict[tuple[str, str], list[Text]] = defaultdict(list)
    for part, documents in parts.items():
        for document in documents:
            found[part, document.language or "und"].append(document)
    return found


def write_stage(folder: Path, documents: Documents, drawn: Mapping[tuple[str, str], int], tokenizer: Tokenizer) -> Path:
    """Shards and `blend.json` of documents that nothing was done to, as many tokens of each key as are to be drawn.

    Documents lie in the order of their ids' hashes, as in our own shards, so that a part of a shard is a fair sample.
    """
    folder.mkdir()
    entries = []
    total = sum(drawn.values())
    for (part, language), wanted in sorted(drawn.items()):
        found = sorted(documents.get((part, language), ()), key=lambda d: xxhash.xxh3_64_intdigest(d.id.encode()))
        if not wanted or not found:
            continue
        shard = _shard(folder, f"{part}-{language}", found, tokenizer, wanted)
        epochs = wanted / shard["tokens"]
        names = {"part": part, "language": language, "source": part}
        entries.append({**shard, **names, "epochs": epochs, "weight": wanted / total})
    blend = {
        "family": folder.name,
        "stage": 2,
        "fingerprint": "",
        "tokenizer": tokenizer.identity(),
        "entries": entries,
    }
    (folder / "blend.json").write_text(json.dumps(blend, indent=1))
    return folder


def _shard(folder: Path, name: str, documents: Sequence[Text], tokenizer: Tokenizer, wanted: int) -> dict[str, Any]:
    """Written until it holds all that is drawn; a document more than that would never be read."""
    stem = folder / name
    with Path(f"{stem}.bin").open("wb") as bin_file, Path(f"{stem}.idx").open("wb") as idx_file:
        writer = ShardWriter(bin_file, idx_file, token_dtype(tokenizer.vocab_size))
        left = iter(documents)
        languages: Counter[str] = Counter()
        while writer.tokens < wanted and (batch := list(islice(left, 16))):
            for document, ids in zip(batch, tokenizer.encode_batch([one.text for one in batch]), strict=True):
                languages[document.language or "others"] += max(0, min(len(ids), wanted - writer.tokens))
                writer.append(ids)
        size = writer.finish()
    digest = hashlib.sha256(Path(f"{stem}.bin").read_bytes()).hexdigest()[:8]
    for suffix in (".bin", ".idx"):
        Path(f"{stem}{suffix}").rename(f"{stem}.{digest}{suffix}")
    counts = {"documents": size.documents, "tokens": size.tokens, "languages": dict(languages)}
    return {"prefix": f"{name}.{digest}", **counts}


def drawn_languages(stage: Path) -> dict[str, int]:
    """Of a stage that `write_stage` wrote and that is drawn once at most: tokens by language, as sources state it."""
    found: Counter[str] = Counter()
    for entry in json.loads((stage / "blend.json").read_text())["entries"]:
        found.update(entry["languages"])
    return dict(found)
