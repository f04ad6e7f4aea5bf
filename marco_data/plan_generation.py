"""What generation will take, before anything is paid: seeds found or probed, then calls, tokens, GPU-hours and money.

In: a plan, the root, what an earlier build counted. Out: an `Estimate` for each entry and language, and what is wrong
already: prompts that do not fit, generators that nobody answers for. Asks no model and starts nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from marco_data.dataset import Context, Dataset
from marco_data.generation.accounting import RequestCount
from marco_data.generation.estimate import Estimate, Rate, Served, Work, estimate, measured_rate
from marco_data.generation.maker import Seed
from marco_data.generation.pools import VllmPool
from marco_data.generation.prompt import Prompt, load_prompt, shipped
from marco_data.generation.validation import Problem, fit_problems, generator_problems, no_seeds, prompt_problems
from marco_data.languages import LANGUAGES
from marco_data.mix import selection_hashes
from marco_data.nodes.generate import Generate, price_of
from marco_data.nodes.seeds import SeedShard, columns_of, may_be_seed, seed_shards, texts_of
from marco_data.probe import Looked
from marco_data.records import Record
from marco_data.step import Tools
from marco_data.storage import Storage

SEEDS = 24
"""Of each entry and language that are sampled."""


class _Found:
    """Seeds of one entry and target language: how many there are, their bytes, and a sample of them."""

    def __init__(self) -> None:
        self.number = 0.0
        self.bytes = 0.0
        self.sample: list[tuple[int, Seed]] = []

    def add(self, place: int, seed: Seed) -> None:
        self.sample = sorted([*self.sample, (place, seed)], key=lambda pair: pair[0])[:SEEDS]


Found = Mapping[str, _Found]


def writers_of(dataset: Dataset) -> list[Generate]:
    return [node for node in dataset.nodes if isinstance(node, Generate)]


def estimates(
    dataset: Dataset,
    storage: Storage,
    done: Mapping[str, Sequence[Record]],
    measured: Sequence[RequestCount],
    looked: Looked,
) -> tuple[list[Estimate], list[str]]:
    """An estimate for each entry and language that has seeds, and sentences on where the seeds are known from."""
    writers = writers_of(dataset)
    if done.get("seeds"):
        context = Context(storage, Tools(), done)
        found = {node.scope: _found_in(context, node) for node in writers}
        said = ["seeds: counted, in what this root holds"]
    else:
        probed = looked.probed
        if probed is None:
            return [], ["seeds: not known without a probe"]
        found = {node.scope: _found_by(probed.kept, node) for node in writers}
        said = [
            f"seeds: by a probe of {probed.read:,} rows through the real steps, {probed.kept.num_rows:,} of them kept; "
            "duplicates are not looked for, so that there will be fewer"
        ]
    works = [work for node in writers for work in _works(node, found[node.scope], measured)]
    if not works:
        return [], said
    return estimate(works, looked.tokenizer, prompts_of(writers), measured), said


def _found_in(context: Context, node: Generate) -> Found:
    found: dict[str, _Found] = defaultdict(_Found)
    for shard, record in zip(seed_shards(context), context.done["seeds"], strict=True):
        counts = record.facts["seeds"][node.scope]
        short = set()
        for language, (n, size) in counts.items():
            for target in node.entry.wanted_from(language):
                found[target].number += n
                found[target].bytes += size
                if len(found[target].sample) < SEEDS:
                    short.add(language)
        if short:
            for place, seed in _seeds_of(context.storage, shard, node, short):
                for target in node.entry.wanted_from(seed.language):
                    found[target].add(place, seed)
    return found


def _seeds_of(storage: Storage, shard: SeedShard, node: Generate, languages: set[str]) -> Iterable[tuple[int, Seed]]:
    """At most SEEDS of each language, first by hash."""
    table = columns_of(storage, shard)
    table = table.append_column("row", pa.array(np.arange(table.num_rows)))
    table = table.filter(may_be_seed(table, node.entry))
    hashes = selection_hashes(table["id"].to_pylist(), f"{node.seed} {node.scope}")
    chosen = []
    codes = np.array(table["language"].to_pylist(), dtype=object)
    for language in sorted(languages):
        at = np.flatnonzero(codes == language)
        chosen += at[np.argsort(hashes[at])][:SEEDS].tolist()
    rows = table["row"].to_pylist()
    texts = texts_of(storage, shard, sorted(rows[i] for i in chosen))
    for i in chosen:
        url, licence, text = texts[rows[i]]
        yield (
            int(hashes[i]),
            Seed(table["id"][i].as_py(), text, str(codes[i]), table["source"][i].as_py(), url, licence),
        )


def _found_by(kept: pa.Table, node: Generate) -> Found:
    found: dict[str, _Found] = defaultdict(_Found)
    if not kept.num_rows:
        return found
    kept = kept.drop_columns(["signature"])
    table = kept.filter(may_be_seed(kept, node.entry))
    hashes = selection_hashes(table["id"].to_pylist(), f"{node.seed} {node.scope}")
    for place, row in zip(hashes.tolist(), table.to_pylist(), strict=True):
        seed = Seed(row["id"], row["text"], row["language"], row["source"], row["url"], row["licence"])
        for target in node.entry.wanted_from(row["language"]):
            found[target].number += row["stands_for"]
            found[target].bytes += row["stands_for"] * row["text_bytes"]
            found[target].add(place, seed)
    return found


def _works(node: Generate, found: Found, measured: Sequence[RequestCount]) -> list[Work]:
    served = Served(
        node.model.named,
        node.model.context,
        price_of(node.pool) if node.pool else Served("", 0).price,
        _rate(node, measured),
    )
    entry, documents = node.entry, node.entry.make.ordinals
    return [
        Work(
            entry=node.scope,
            maker=entry.make,
            language=LANGUAGES[code],
            served=served,
            seeds=tuple(seed for _, seed in f.sample),
            requests=max(len(f.sample), round(f.number * entry.share)) * documents,
            bytes=round(f.bytes * entry.share) * documents,
            target=entry.target_of(code),
            documents=documents,
        )
        for code, f in sorted(found.items())
        if f.sample
    ]


def _rate(node: Generate, measured: Sequence[RequestCount]) -> Rate | None:
    pool = node.pool
    if pool is not None and pool.tokens_per_second is not None:
        return Rate(pool.tokens_per_second, pool.gpus if isinstance(pool, VllmPool) else 1.0, "stated in --pools")
    return measured_rate(measured, node.model.named, node.entry.make.name)


def prompts_of(writers: Sequence[Generate]) -> list[Prompt]:
    """All prompts that are shipped, and the users' own that the entries name."""
    own = {
        value
        for node in writers
        for field in node.entry.make.model_dump().values()
        for value in (field if isinstance(field, list | tuple) else [field])
        if isinstance(value, str) and value.endswith((".yaml", ".yml"))
    }
    return [load_prompt(name) for name in (*shipped(), *sorted(own))]


def check_generation(dataset: Dataset, found: Sequence[Estimate]) -> list[Problem]:
    """What would stop generation or spoil part of it, each once."""
    writers = writers_of(dataset)
    problems = prompt_problems(prompts_of(writers)) if writers else []
    for name, node in {node.entry.generator: node for node in writers}.items():
        where = node.model.model if isinstance(node.pool, VllmPool) else ""  # a server has its own names of models
        problems += generator_problems(name, where, pool=node.pool is not None, recorded=bool(node.model.recorded))
    problems += [no_seeds(node.scope, codes) for node in writers if (codes := _without_seeds(node, found))]
    return problems + fit_problems(found)


def _without_seeds(node: Generate, found: Sequence[Estimate]) -> list[str]:
    there = {one.language for one in found if one.entry == node.scope}
    return [code for code in node.entry.languages if code not in there]
