"""Four stages of one family, built one after the other and trained on in one run."""

import math
from collections import Counter, defaultdict
from pathlib import Path

from small_corpus import CODES, as_recipe, build, prose, recipe_values, row, write_corpus, write_jsonl

from marco_data.train.batches import Samples
from marco_data.train.blend import load_blend
from marco_data.train.order import plan_stages

SEQUENCE = 24


def test_four_stages_share_no_document_and_have_their_shares_to_one_sample(tmp_path: Path):
    corpus = write_corpus(tmp_path / "in")
    for code in CODES[:3]:
        sentences = " ".join(prose(code)).split(". ")
        short = [". ".join(sentences[at : at + 2]) for at in range(0, len(sentences), 2)]
        write_jsonl(corpus / "web" / f"{code}.jsonl", [row(code, 10 + n, text) for n, text in enumerate(short)])
    values = recipe_values(corpus) | {"budget": 700, "mixture": {"web": {"weight": 1}}, "languages": list(CODES[:3])}
    values["sources"] = {"web": {**values["sources"]["web"], "paths": [f"{corpus}/web/*_Latn.jsonl"]}}
    built = [build(as_recipe(values | {"stage": number}), tmp_path / "out") for number in (1, 2, 3, 4)]
    plan = plan_stages([load_blend(tmp_path / "out" / b.stage.folder) for b in built], sequence=SEQUENCE)
    assert [stage.stage for stage in plan.stages] == [1, 2, 3, 4]
    stages_of, texts = defaultdict(set), 0
    for stage, b in zip(plan.stages, built, strict=True):
        ids = {f"../{s['prefix']}": b.storage.read_table(s["lineage"])["id"].to_pylist() for s in b.stage.shards}
        samples, seen, places = Samples(stage), Counter(), Counter()
        for k in range(len(samples)):
            seen.update(samples[k].sources[:-1].tolist())
            for use in samples.documents_of(k):
                stages_of[ids[use.prefix][use.document]].add(stage.stage)
            for piece in stage.order(k):
                places.update((piece.entry, piece.start + i) for i in range(piece.tokens))
        drawn = Counter()
        for source, entry in zip(stage.sources, stage.blend.entries, strict=True):
            drawn[source] += entry.drawn
        assert all(abs(seen[source] - tokens) <= SEQUENCE for source, tokens in drawn.items())
        assert stage.blend.drawn - seen.total() == stage.left <= SEQUENCE
        # Beyond its rounds a place is read again only as a last label that is the next sample's first input.
        rounds = [math.ceil(entry.epochs) for entry in stage.blend.entries]
        assert all(times <= rounds[entry] + 1 for (entry, _), times in places.items())
        texts += b.stage.books.kept
    assert {len(found) for found in stages_of.values()} == {1}, "no document in two stages"
    assert len(stages_of) >= texts - len(built), "all but what less than a sample of each stage may hold"
