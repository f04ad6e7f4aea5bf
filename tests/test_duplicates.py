"""Dedup in partitions says what the rule says with everything in memory, however the documents are cut up."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from written_corpora import Written, deduplicated, specified

from marco_data.dedup import DropDuplicates

WORDS = [f"{a}{b}{c}" for a in "bdklmn" for b in "aeio" for c in ("r", "st", "nd")]
HAN = "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动"


def corpus(seed: int, most: int = 40) -> list[list[Written]]:
    """Documents of two languages in shards of any size: copies, near copies, chains, templates, repeated ids."""
    rng = np.random.default_rng(seed)
    documents: list[Written] = []
    for _ in range(int(rng.integers(1, most))):
        ids = "".join(rng.choice(list("0123456789abcdef"), 32))
        han = rng.random() < 0.3
        if documents and rng.random() < 0.75:
            other = documents[int(rng.integers(len(documents)))]
            words = list(other.text) if other.language == "zho_Hans" else other.text.split(" ")
            for _ in range(int(rng.choice([0, 1, 1, 2, 3, 6]))):
                words[int(rng.integers(len(words)))] = str(rng.choice(WORDS if other.language != "zho_Hans" else list(HAN)))
            text = ("" if other.language == "zho_Hans" else " ").join(words)
            language = other.language if rng.random() < 0.95 else "deu_Latn"
            if rng.random() < 0.15:
                ids = other.id
        elif han:
            text, language = "".join(rng.choice(list(HAN), int(rng.integers(5, 80)))), "zho_Hans"
        else:
            text, language = " ".join(rng.choice(WORDS, int(rng.integers(3, 120)))), "eng_Latn"
        reason = "apply_limits/short" if rng.random() < 0.1 else None
        documents.append(Written(ids, text, language, bool(rng.random() < 0.3), reason))
    cuts = np.sort(rng.integers(0, len(documents) + 1, int(rng.integers(0, 5))))
    shards = [documents[a:b] for a, b in zip([0, *cuts], [*cuts, len(documents)], strict=True)]
    return [shard for shard in shards if shard]


def root() -> tempfile.TemporaryDirectory[str]:
    """In memory where there is such a place: what is committed is forced to disk, thousands of times here."""
    return tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)


def approximately(rows):
    return [[{**r, "jaccard": None if r["jaccard"] is None else pytest.approx(r["jaccard"], abs=1e-6)} for r in s] for s in rows]


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 2**32),
    st.sampled_from([1, 3, 8, 1000]),
    st.sampled_from([1, 2, 4, 64]),
    st.sampled_from([0.0, 3.0, 1e6]),
)
def test_verdicts_are_those_of_the_rule_whatever_the_partition(seed, partition, first, sigmas):
    shards = corpus(seed)
    rule = DropDuplicates(partition=partition, first=first, sigmas=sigmas)
    with root() as folder:
        found, _ = deduplicated(folder, shards, rule)
    assert found == approximately(specified(shards, rule))


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32), st.sampled_from([3, 1000]), st.sampled_from([1, 3, 64]), st.sampled_from(["passed", "all"]))
def test_runs_in_order_say_what_one_run_over_all_says(seed, partition, first, over):
    shards = corpus(seed, most=60)
    rng = np.random.default_rng(seed)
    runs = np.sort(rng.integers(0, 3, len(shards)))
    runs = np.unique(runs, return_inverse=True)[1].tolist()
    rule = DropDuplicates(partition=partition, first=first, over=over)
    expected = approximately(specified(shards, rule, runs))
    with root() as folder:
        for run in sorted(set(runs)):
            mine = [i for i, r in enumerate(runs) if r == run]
            names = {"index": f"crawl-{run}", "earlier": f"crawl-{run - 1}" if run else None}
            found, _ = deduplicated(folder, [shards[i] for i in mine], rule.model_copy(update=names))
            assert found == approximately(specified(shards[: mine[-1] + 1], rule, runs[: mine[-1] + 1]))[mine[0] :]
            # What is said of a document stays, however many come after it: only its cluster may grow.
            assert without_sizes(found) == without_sizes([expected[i] for i in mine])


def without_sizes(shards):
    grown = ("cluster_size", "jaccard_exact")
    return [[{k: v for k, v in row.items() if k not in grown} for row in s] for s in shards]
