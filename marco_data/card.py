"""The card of a stage: what it holds, of what and how it was made, for whoever is handed the folder.

In: a stage's manifest and blend, as their files hold them. Out: `CARD.md`, with the front matter of a Hugging Face
dataset card. It is a function of the two and of the recipes that ship with the project: no time, machine, folder or
number of workers is in it, so the same build has the same card. Knows no storage and reads no text.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from typing import Any

from marco_data import __version__
from marco_data.catalog import families
from marco_data.errors import RecipeError
from marco_data.languages import LANGUAGES
from marco_data.markdown import as_yaml, code, name, table, text
from marco_data.recipe import Recipe, load_recipe
from marco_data.records import DROPPED, FAILED, GENERATED, KEPT, READ, REPLACED
from marco_data.redact import public_url

NAME = "CARD.md"
Values = Mapping[str, Any]

MOST_FAILURES = 100  # listed; manifest.json has all

HUB_LICENCES = frozenset(
    (
        *("cc0-1.0", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-4.0"),
        *("cc-by-nd-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "odc-by", "odbl", "pddl", "gfdl"),
        *(
            "apache-2.0",
            "mit",
            "bsd-2-clause",
            "bsd-3-clause",
            "gpl-2.0",
            "gpl-3.0",
            "lgpl-3.0",
            "mpl-2.0",
            "unlicense",
        ),
    )
)
"""Of the Hub's names those that texts come under; any other is `other` there, and by its own name below."""
_HUB_NAME = {"odc-by-1.0": "odc-by", "odbl-1.0": "odbl", "pddl-1.0": "pddl"}
SIZES = {n: 10**i for i, n in enumerate(("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T"), start=3)}

# What differs from machine to machine in the words of an error: paths keep their last part.
_MACHINES = (
    (re.compile(r"(?<![\w.:/])/(?:[^\s/'\"`:,()]+/)*([^\s/'\"`:,()]+)"), r"\1"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"), "(address)"),
    (re.compile(r"\b0x[0-9a-f]+\b|(?<=pid=)\d+|(?<=pid )\d+"), "(number)"),
)


def card(manifest: Values, blend: Values | None) -> str:
    """The whole card; `blend` is None where the stage was not finished."""
    sections = {
        "": _head(manifest, blend),
        "Load it": _load(manifest) if blend is not None else "",
        "Build it again": _again(manifest),
        "Sources": _sources(manifest),
        "Documents": _documents(manifest),
        "Languages": _languages(manifest),
        "Parts": _parts(blend),
        "Languages in parts": _shares(manifest, blend),
        "Text that a model wrote": _generated(manifest),
        "Benchmarks": _benchmarks(manifest),
        "Alarms and waivers": _alarms(manifest),
        "Failures": _failures(manifest),
        "Versions": _versions(manifest),
        "Recipe": f"As it was resolved; local paths are names here.\n\n{code(as_yaml(_recipe(manifest)), 'yaml')}",
    }
    body = "\n".join(f"## {title}\n\n{s}" if title else s for title, s in sections.items() if s)
    return f"---\n{as_yaml(_front_matter(manifest))}---\n\n{body}"


def _front_matter(manifest: Values) -> dict[str, Any]:
    """What the Hub's dataset card knows; its viewer cannot read token shards."""
    codes = sorted({s["language"] for s in manifest["shards"]})
    documents = sum(s["documents"] for s in manifest["shards"])
    least = [name for name, size in SIZES.items() if size <= documents][-1:]
    most = [name for name, size in SIZES.items() if documents < size][:1]
    size = f"n>{least[0]}" if not most else f"{least[0]}<n<{most[0]}" if least else f"n<{most[0]}"
    licences = sorted({_hub_licence(source["licence"]) for source in _sources_of(manifest)}) or ["unknown"]
    return {
        "pretty_name": _title(manifest),
        "language": list(dict.fromkeys(_hub_language(code) for code in codes)),
        "license": licences[0] if len(licences) == 1 else licences,
        "size_categories": [size],
        "task_categories": ["text-generation"],
        "task_ids": ["language-modeling"],
        "tags": ["marco-data", "megatron", "pretraining", *([] if manifest["complete"] else ["incomplete"])],
        "viewer": False,
    }


def _sources_of(manifest: Values) -> list[Values]:
    """The recipe's sources that something in the shards is of: as it was read, or as a seed of what a model wrote."""
    recipe, drawn = manifest["recipe"], {shard["source"].partition(".")[0] for shard in manifest["shards"]}
    if drawn - set(recipe["sources"]):
        for entry in recipe["generate"].values():
            drawn.update(entry["seeds"]["sources"] or recipe["sources"])
    return [source for name, source in sorted(recipe["sources"].items()) if name in drawn]


def _hub_licence(licence: str | None) -> str:
    if licence is None:
        return "unknown"
    plain = licence.strip().lower()
    plain = _HUB_NAME.get(plain, plain)
    return plain if plain in HUB_LICENCES else "other"


def _hub_language(code: str) -> str:
    short = code.partition("_")[0]
    return (LANGUAGES[code].iso639_1 or short) if code in LANGUAGES else short


def _title(manifest: Values) -> str:
    return f"{manifest['family']}, stage {manifest['stage']}"


def _head(manifest: Values, blend: Values | None) -> str:
    shards, recipe = manifest["shards"], manifest["recipe"]
    lines = [f"# {_title(manifest)}\n"]
    said = [*_warnings(manifest)]
    if said:
        lines.append("".join(f"> **{what}**\n>\n" for what in said).removesuffix(">\n"))
    if recipe["description"]:
        lines.append(f"{text(recipe['description'], 2000)}\n")
    lines.append("Tokenized pretraining data that marco-data wrote. All figures are from the records of the build.\n")
    rows: list[tuple[str, str | int]] = [
        ("documents", sum(s["documents"] for s in shards)),
        ("tokens in the shards", sum(s["tokens"] for s in shards)),
        ("bytes of text", sum(s["bytes"] for s in shards)),
        ("languages", len({s["language"] for s in shards})),
        ("shards", len(shards)),
    ]
    if recipe["budget"] is not None:
        rows.append(("tokens asked for", recipe["budget"]))
    if blend is not None:
        tokenizer = blend["tokenizer"]
        rows += [
            ("tokens a trainer draws", blend["drawn"]),
            ("tokenizer, SHA-256", tokenizer["hash"]),
            ("vocabulary", tokenizer["vocab_size"]),
        ]
        if tokenizer["end_of_document"]:
            rows.append(("end of document", f"{tokenizer['end_of_document']} is {tokenizer['id']}"))
    rows.append(("folder", manifest["folder"]))
    # Words and figures share a column here; as words, figures get their commas first.
    cells = [(what, f"{v:,}" if isinstance(v, int) else v) for what, v in rows]
    return "\n".join([*lines, table(("", ""), cells)])


def _warnings(manifest: Values) -> Iterator[str]:
    if not manifest["complete"]:
        why = "an alarm stopped it" if any(not a["waived"] for a in manifest["alarms"]) else "shards failed"
        yield f"This stage is not complete: {why}, and nothing was tokenized or mixed after that. Do not train on it."
    elif not manifest["balanced"] and not _waived(manifest):
        yield "The books of this stage do not balance: some documents are unaccounted for."
    if _waived(manifest):
        yield "Something was waived in this stage: see Alarms and waivers."
    failed = _outcomes(manifest)[FAILED]
    if failed:
        yield f"{failed:,} rows could not be judged: see Documents."


def _waived(manifest: Values) -> bool:
    return bool(manifest["waived"]) or any(alarm["waived"] for alarm in manifest["alarms"])


def _load(manifest: Values) -> str:
    snippet = """\
import json
from pathlib import Path

from marco_data.tokens import Shard

blend = json.loads(Path("blend.json").read_text())
for entry in blend["entries"]:             # a trainer draws `weight` of its tokens from the shard `prefix`
    shard = Shard(entry["prefix"])
    print(entry["language"], entry["part"], entry["epochs"], shard.read_document(0)[:8])"""
    return (
        "Shards are `.bin` and `.idx` files as Megatron-LM reads them; `blend.json` names them by paths from this "
        "folder, so take the root as a whole. `blend.txt` has the same weights in Megatron's own form. In this folder:"
        f"\n\n{code(snippet, 'python')}\n"
        f"`marco-data train {manifest['stage']}` trains on it. Beside each shard a `.lineage` file says which document "
        "is where.\n"
    )


def _again(manifest: Values) -> str:
    stage, family, after = manifest["stage"], manifest["family"], manifest["mix"].get("after")
    lines = []
    if _ships(manifest):
        lines.append(code(f"marco-data build-stage {stage} --family {family}", "sh"))
    else:
        lines.append(
            "Save the recipe below as `recipe.yaml` and put the folders of your files before their names, then:\n\n"
            + code(f"marco-data build-stage {stage} --recipe recipe.yaml", "sh")
        )
    if after:
        lines.append(f"It goes on where {name(after)} ended: build that first, in the same root.\n")
    if manifest["requests"]:
        lines.append("With a copy of the root's `ledger/` no model is asked again.\n")
    lines.append("The same sources, versions and recipe give the same bytes.\n")
    return "\n".join(lines)


def _ships(manifest: Values) -> bool:
    """Whether the recipe is one that ships with the project, as it stands."""
    folder = families().get(manifest["family"])
    if manifest["recipe"].get("languages_from") is not None:  # none of those does; loading one would forget them
        return False
    if folder is None or not (file := folder / f"stage{manifest['stage']}.yaml").exists():
        return False
    try:
        return bool(load_recipe(file).recorded == manifest["recipe"])
    except RecipeError:  # of a later or earlier version of the project
        return False


def _sums(manifest: Values, key: str) -> dict[str, Counter[str]]:
    """{source or language: {outcome, or outcome and step: documents}}, and tokens of what is kept."""
    out: dict[str, Counter[str]] = defaultdict(Counter)
    for count in manifest["counts"]:
        row = out[count[key]]
        row[count["outcome"]] += count["documents"]
        if count["outcome"] == DROPPED:
            row[f"-{count['reason'].partition('/')[0]}"] += count["documents"]
        if count["outcome"] == KEPT:
            row["tokens"] += count["tokens"]
    return dict(sorted(out.items()))


def _outcomes(manifest: Values) -> Counter[str]:
    return reduce(lambda a, b: a + b, _sums(manifest, "source").values(), Counter())


def _sources(manifest: Values) -> str:
    sums, files = _sums(manifest, "source"), manifest["files"]
    rows = []
    for source in sorted({*sums, *files}):
        given = manifest["recipe"]["sources"].get(source)
        row, read = sums.get(source, Counter[str]()), files.get(source, {"files": None, "broken": None})
        if given is None:
            licence = "that of its seeds"
        elif given["fields"]["licence"] is not None:
            licence = f"by document, else {given['licence'] or 'not stated'}"
        else:
            licence = given["licence"] or "not stated"
        rows.append((source, licence, read["files"], read["broken"], row[READ] + row[GENERATED], row[KEPT]))
    places = [f"- {name(place)}" for place in sorted({place for at in manifest["read_at"].values() for place in at})]
    listed = "\nRead from a hub at these commits:\n\n" + "\n".join(places) + "\n" if places else ""
    return table(("source", "licence", "files", "broken", "documents", "kept"), rows) + listed


def _documents(manifest: Values) -> str:
    sums = _outcomes(manifest)
    reasons: Counter[tuple[str, str]] = Counter()
    for count in manifest["counts"]:
        if count["outcome"] in (DROPPED, FAILED):
            reasons[count["outcome"], count["reason"]] += count["documents"]
    rows = [(what, "", sums[what]) for what in (READ, GENERATED, KEPT, REPLACED)]
    rows += [(outcome, reason, n) for (outcome, reason), n in sorted(reasons.items())]
    balance = "They balance" if manifest["balanced"] else "They do not balance, or something was waived"
    return table(("documents", "reason", ""), rows) + (
        f"\n{balance}: read + generated = kept + replaced + dropped + failed, for each source and language.\n"
    )


def _languages(manifest: Values) -> str:
    sums = _sums(manifest, "language")
    size: Counter[str] = Counter()
    for shard in manifest["shards"]:
        size[shard["language"]] += shard["bytes"]
    steps = sorted({key for row in sums.values() for key in row if key.startswith("-")})
    shown = [READ, *(k for k in (GENERATED,) if any(row[k] for row in sums.values())), FAILED, *steps]
    shown += [*(k for k in (REPLACED,) if any(row[k] for row in sums.values())), KEPT, "tokens"]
    ranked = sorted(sums.items(), key=lambda item: (-item[1]["tokens"], item[0]))
    rows = [
        (lang, LANGUAGES[lang].name if lang in LANGUAGES else "", *(row[k] for k in shown), size[lang])
        for lang, row in ranked
    ]
    header = [f"dropped by {k[1:].replace('_', ' ')}" if k.startswith("-") else k for k in shown]
    return table(("language", "", *header, "bytes"), rows)


def _parts(blend: Values | None) -> str:
    if blend is None:
        return ""
    rows = [(p["part"], *(p[k] for k in _PART)) for p in blend["parts"]]
    return table(("part", "weight asked for", "weight", "tokens asked for", "drawn", "short"), rows)


_PART = ("requested_weight", "weight", "requested", "drawn", "shortfall")


def _shares(manifest: Values, blend: Values | None) -> str:
    if blend is None:
        return ""
    size: Counter[tuple[str, str]] = Counter()
    for shard in manifest["shards"]:
        size[shard["language"], shard["part"]] += shard["bytes"]
    rows = [
        (
            s["language"],
            s["part"],
            *(s[k] for k in _SHARE[:2]),
            size[s["language"], s["part"]],
            *(s[k] for k in _SHARE[2:]),
        )
        for s in sorted(blend["shares"], key=lambda s: (s["language"], s["part"]))
        if s["documents"] or s["requested"]
    ]
    header = ("language", "part", "documents", "tokens", "bytes", "epochs", "asked for", "drawn", "short")
    return table(header, rows)


_SHARE = ("documents", "tokens", "epochs", "requested", "drawn", "shortfall")


def _generated(manifest: Values) -> str:
    recipe, requests = manifest["recipe"], manifest["requests"]
    if not recipe["generators"] and not requests:
        return ""
    models = [(n, g["model"], g["revision"], g["context"]) for n, g in sorted(recipe["generators"].items())]
    prompts = sorted({p for node in manifest["nodes"].values() for p in _prompts(node["identity"])})
    ended: Counter[tuple[str, str]] = Counter()
    for entry, why in manifest["ended"].items():
        ended.update((entry, reason) for reason in why.values())
    blocks = [
        table(("generator", "model", "revision", "context"), models),
        table(("prompt", "digest"), prompts),
        _requested(("maker", "prompt", "model"), requests),
        _requested(("maker", "language"), requests),
        table(("entry", "no more asked for", "languages"), [(*key, n) for key, n in sorted(ended.items())]),
    ]
    return "\n".join(block for block in blocks if block)


def _requested(keys: tuple[str, ...], requests: Iterable[Values]) -> str:
    """Documents that were wanted of models. Their time and price are no property of the data."""
    sums: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    reasons: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for row in requests:
        key = tuple(row[k] for k in keys)
        sums[key].update({k: row[k] for k in _REQUESTED})
        reasons[key].update(row["rejected"])
    rows = [
        (*key, *(row[k] for k in _REQUESTED), ", ".join(f"{r} {n:,}" for r, n in sorted(reasons[key].items())))
        for key, row in sorted(sums.items())
    ]
    return table((*keys, "wanted", "accepted", "tokens accepted", "rejected"), rows)


_REQUESTED = ("requested", "accepted", "accepted_tokens")


def _prompts(value: Any) -> Iterator[tuple[str, str]]:
    """Every [name@version, digest of its words] in an identity."""
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _prompts(inner)
    elif isinstance(value, list | tuple):
        if len(value) == 2 and all(isinstance(v, str) for v in value) and re.fullmatch(r"[0-9a-f]{16}", value[1]):
            yield value[0], value[1]
        else:
            for inner in value:
                yield from _prompts(inner)


def _benchmarks(manifest: Values) -> str:
    section = manifest["recipe"]["steps"]["decontaminate"]
    if section is None:
        return "No benchmark was looked for.\n"
    found = manifest["benchmarks"]
    rows = [
        (n, b.get("language") or "", *(found.get(n, {}).get(k, 0) for k in ("items", "documents")))
        for n, b in sorted(section["benchmarks"].items())
    ]
    return table(("benchmark", "language", "items found", "documents dropped"), rows)


def _alarms(manifest: Values) -> str:
    rows = [
        (
            f"{a['step']}/{a['source']}/{a['language']}",
            a["reached"],
            a["dropped"],
            a["dropped"] / a["reached"],
            a["limit"],
            "waived" if a["waived"] else "stopped the build",
        )
        for a in manifest["alarms"]
    ]
    waived = [f"- {name(shard)}: a shard that the stage does without\n" for shard in manifest["waived"]]
    return "\n".join(
        b for b in (table(("alarm", "reached", "dropped", "share", "limit", ""), rows), "".join(waived)) if b
    )


def _failures(manifest: Values) -> str:
    failures = manifest["failures"]
    rows = [
        (f["node"], f["shard"], f["file"] or "", _without_machines((f["error"].splitlines() or [""])[0]))
        for f in failures[:MOST_FAILURES]
    ]
    more = len(failures) - MOST_FAILURES
    said = f"\nAnd {more:,} more, which manifest.json has.\n" if more > 0 else ""
    return table(("task of", "shard", "file", "error"), rows) + said


def _without_machines(error: str) -> str:
    for pattern, instead in _MACHINES:
        error = pattern.sub(instead, error)
    return error


def _versions(manifest: Values) -> str:
    steps: set[tuple[str, int]] = set()
    packages: dict[str, set[str]] = defaultdict(set)
    for node in manifest["nodes"].values():
        _walk(node["identity"], steps, packages)
    of_packages = [(package, ", ".join(sorted(found))) for package, found in sorted(packages.items())]
    return "\n".join(
        [
            f"marco-data {__version__}. A step's version changes with what it writes.\n",
            table(("package", "version"), of_packages),
            table(("step", "version"), [(step, str(version)) for step, version in sorted(steps)]),
        ]
    )


def _walk(value: Any, steps: set[tuple[str, int]], packages: dict[str, set[str]]) -> None:
    if isinstance(value, Mapping):
        for key in ("step", "node", "maker"):
            if isinstance(value.get(key), str) and isinstance(value.get("version"), int):
                steps.add((value[key], value["version"]))
        for package, version in value["packages"].items() if isinstance(value.get("packages"), Mapping) else ():
            packages[package].add(str(version))
        value = list(value.values())
    if isinstance(value, list | tuple):
        for inner in value:
            _walk(inner, steps, packages)


def _recipe(manifest: Values) -> dict[str, Any]:
    """The recipe without what a published page should not have: folders, and secrets in URLs."""
    recipe = manifest["recipe"]
    known = [key for key in Recipe.model_fields if key in recipe]
    return {key: _public(recipe[key]) for key in [*known, *sorted(set(recipe) - set(known))]}


def _public(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _public(inner) for key, inner in sorted(value.items())}  # as manifest.json has it
    if isinstance(value, list | tuple):
        return [_public(inner) for inner in value]
    if not isinstance(value, str):
        return value
    value = public_url(value)
    return value.rstrip("/").rpartition("/")[2] if value.startswith(("/", "~/")) else value
