"""What a person or a script is told of a built stage: the `stats` object and the table of languages."""

from collections import defaultdict
from typing import Any

from rich.table import Table

from marco_data.languages import LANGUAGES
from marco_data.records import DROPPED, FAILED, KEPT, READ
from marco_data.stage import Stage
from marco_data.storage import Storage


def stats_object(stage: Stage, storage: Storage) -> dict[str, Any]:
    """The object of `stats N --json`; see the README for its keys."""
    b = stage.books
    return {
        "family": stage.family,
        "stage": stage.stage,
        "complete": stage.complete,
        "balanced": stage.balanced,
        "documents": {
            "read": b.read,
            "generated": b.generated,
            "kept": b.kept,
            "replaced": b.replaced,
            "dropped": dict(b.dropped),
            "failed": dict(b.failed),
        },
        "languages": _sums(stage, "language"),
        "parts": _parts(stage),
        "shards": [storage.uri(s["prefix"]) for s in stage.shards],
        "blend": storage.uri(f"{stage.folder}/blend.json") if stage.complete else None,
        "failed_shards": [{"shard": f.shard, "error": f.error} for f in stage.failures],
        "waived": list(stage.waived),
        "files": stage.files,
    }


def _sums(stage: Stage, key: str) -> dict[str, dict[str, int]]:
    out: dict[str, dict[str, int]] = {}
    for shard in sorted(stage.shards, key=lambda s: str(s[key])):
        entry = out.setdefault(shard[key], {"documents": 0, "tokens": 0, "bytes": 0})
        for unit in entry:
            entry[unit] += shard[unit]
    return out


def _parts(stage: Stage) -> dict[str, dict[str, Any]]:
    out: dict[str, dict[str, Any]] = {
        part: {"documents": 0, "tokens": 0, "languages": {}} for part in stage.recipe["mixture"]
    }
    for shard in stage.shards:
        entry = out[shard["part"]]
        entry["documents"] += shard["documents"]
        entry["tokens"] += shard["tokens"]
        entry["languages"][shard["language"]] = entry["languages"].get(shard["language"], 0) + shard["tokens"]
    return out


def language_table(stage: Stage) -> Table:
    """Tokens and drops by language, drops by the step that decided them."""
    rows: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    steps: dict[str, None] = {}
    for count in stage.counts:
        row = rows[count.language]
        if count.outcome == READ:
            row["read"] += count.documents
        elif count.outcome == KEPT:
            row["kept"] += count.documents
            row["tokens"] += count.tokens
        elif count.outcome in (DROPPED, FAILED):
            step = "failed" if count.outcome == FAILED else f"-{count.reason.partition('/')[0]}"
            steps[step] = None
            row[step] += count.documents
    table = Table(title=f"{stage.family} stage {stage.stage}", title_justify="left", show_footer=True)
    order = sorted(steps, key=lambda s: (_ORDER.index(s) if s in _ORDER else len(_ORDER), s))
    names = ["read", *order, "kept", "tokens"]
    total = {name: sum(row[name] for row in rows.values()) for name in names}
    table.add_column("language", footer="all")
    for name in names:
        table.add_column(name.replace("_", " ").replace("-read", "-reading"), justify="right", footer=f"{total[name]:,}")
    ranked = sorted(rows.items(), key=lambda item: (-item[1]["tokens"], item[0]))
    for code, row in ranked:
        label = f"{code} {LANGUAGES[code].name}" if code in LANGUAGES else code
        table.add_row(label, *(f"{row[name]:,}" if row[name] else "" for name in names))
    return table


_ORDER = ["failed", "-read", "-normalize", "-url_block_list", "-select_language", "-quality", "-dedup", "-mix"]
