"""`why --iteration` on a stage that was built: its documents are those whose tokens the batch holds."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from command_line import marco
from small_corpus import Built, as_recipe, build, recipe_values, write_corpus

from marco_data.errors import RecipeError
from marco_data.tokenizer import Tokenizer
from marco_data.train.batches import Batches, Samples, iterations
from marco_data.train.blend import load_blend
from marco_data.train.data_check import check_data
from marco_data.train.order import MEGATRON, STABLE, Plan, plan_stages
from marco_data.why import Lookup
from marco_data.why_iteration import Settings, batch_documents, settings_of_run

SEQUENCE, BATCH = 64, 4


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("stage")
    values = recipe_values(write_corpus(folder / "in")) | {"budget": "30000"}
    values["mixture"]["books"]["max_epochs"] = 3
    return build(as_recipe(values), folder / "out")


def blend_path(built: Built) -> Path:
    return Path(built.storage.root) / built.stage.folder


def plan_of(built: Built, order: str = STABLE) -> Plan:
    return plan_stages([load_blend(blend_path(built), verify=True)], sequence=SEQUENCE, order=order)


def test_a_built_stage_is_drawn_as_its_blend_says(built: Built):
    plan = plan_of(built)
    stage = plan.stage(3)
    assert any(named.epochs > 1 for named in stage.blend.entries)
    samples, seen = Samples(stage), Counter()
    for k in range(len(samples)):
        seen.update(samples[k].sources[:-1].tolist())
    blend = built.storage.read_json(f"{built.stage.folder}/blend.json")
    drawn = Counter()
    for row in blend["entries"]:
        drawn[row["language"], row["part"], row["source"]] += row["tokens"] * row["epochs"]
    assert sum(drawn.values()) == pytest.approx(blend["drawn"])
    for number, place in enumerate(plan.sources):
        assert abs(seen[number] - drawn[place]) <= SEQUENCE
    _, report = check_data([blend_path(built)], sequence=SEQUENCE, batch=BATCH)
    assert report.tokens == iterations(stage, BATCH) * BATCH * SEQUENCE


def test_tokens_of_a_sample_decode_to_the_texts_of_its_documents(built: Built):
    tokenizer = Tokenizer.load(built.recipe.tokenizer.path, built.recipe.tokenizer.end_of_document)
    stage = plan_stages([load_blend(blend_path(built))], sequence=600).stage(3)
    samples, lookup = Samples(stage), Lookup(built.stage, built.storage)
    whole = 0
    for k in range(len(samples)):
        found = batch_documents(built.stage, built.storage, k + 1, Settings(600, 1))
        for number, document in enumerate(found):
            if document.tokens == document.length:
                whole += 1
                ids = samples[k].tokens[samples[k].documents == number]
                (place,) = (place for _, place in lookup.places([document.id]))
                file = lookup.measured[place.shard][1]
                text = built.storage.read_table(file.path, ["text"])["text"][place.row].as_py()
                assert ids[-1] == tokenizer.end_of_document_id
                assert tokenizer.decode(ids[:-1]) == text
    assert whole > 10


@pytest.mark.parametrize("order", [STABLE, MEGATRON])
def test_the_documents_of_a_batch_are_those_whose_tokens_it_holds(built: Built, order: str):
    plan, lookup = plan_of(built, order), Lookup(built.stage, built.storage)
    batches = {batch.iteration: batch for batch in Batches(plan, batch=BATCH)}
    for number in (1, len(batches)):
        found = batch_documents(built.stage, built.storage, number, Settings(SEQUENCE, BATCH, order=order))
        batch = batches[number]
        for row in range(BATCH):
            mine = [d for d in found if d.sample == batch.first + row]
            assert sum(d.tokens for d in mine) == SEQUENCE + 1
            at = 0
            for document in mine:
                place = lookup.position(document.prefix, 0)
                assert place is not None
                source = plan.sources[batch.sources[row][at]]
                assert source == (document.language, document.part, document.source)
                lineage = built.storage.read_table(
                    next(s["lineage"] for s in built.stage.shards if s["prefix"] == document.prefix)
                ).to_pylist()[document.document]
                assert (document.id, document.length) == (lineage["id"], lineage["length"])
                assert document.offset + document.tokens <= document.length
                at += document.tokens
        for document in found[:4]:
            answers = [lookup.answer(place) for _, place in lookup.places([document.source_id])]
            assert [(a.id, a.url, a.verdict) for a in answers] == [(document.id, document.url, "kept")]


def ask(built: Built, *words: object):
    return marco("why", "--stage", 3, "--family", "small", "--root", built.storage.root, *words)


def test_the_command_prints_the_batch(built: Built):
    done = ask(built, "--iteration", 2, "--sequence", SEQUENCE, "--batch", BATCH, "--json")
    assert done.code == 0, done.err
    expected = batch_documents(built.stage, built.storage, 2, Settings(SEQUENCE, BATCH))
    assert [line["id"] for line in done.lines] == [document.id for document in expected]
    assert {line["sample"] for line in done.lines} == set(range(BATCH, 2 * BATCH))
    plain = ask(built, "--iteration", 2, "--sequence", SEQUENCE, "--batch", BATCH).out.splitlines()
    assert len(plain) == len(expected)
    assert plain[0].startswith(f"{BATCH} {expected[0].source_id} {expected[0].language} ")


def write_run(folder: Path, built: Built, **change: object) -> Path:
    plan = plan_stages([load_blend(blend_path(built))], sequence=48, seed=9)
    for number in (1, 20):
        checkpoint = folder / f"iteration-{number:08d}"
        checkpoint.mkdir(parents=True)
        state = Batches(plan, batch=2).state()
        (checkpoint / "run.json").write_text(json.dumps({"data": state | change}))
    return folder


def test_a_run_says_itself_what_its_batches_depend_on(built: Built, tmp_path: Path):
    run = write_run(tmp_path, built)
    expected = batch_documents(built.stage, built.storage, 3, Settings(48, 2, seed=9))
    for folder in (run, run / "iteration-00000001"):
        done = ask(built, "--iteration", 3, "--run", folder, "--json")
        assert [(line["id"], line["offset"]) for line in done.lines] == [(d.id, d.offset) for d in expected]
    assert settings_of_run(run).batch == 2
    larger = ask(built, "--iteration", 1, "--run", run, "--batch", 5, "--json")
    assert {line["sample"] for line in larger.lines} == set(range(5))


def test_a_stage_that_a_run_was_not_trained_on_is_refused(built: Built, tmp_path: Path):
    identity = dict(settings_of_run(write_run(tmp_path / "a", built)).identity)
    shard = next(name for name in identity if ": shard " in name)
    for number, changed in enumerate(
        (identity | {shard: ["other"]}, {"sequence length": 48, "seed": 9, "order": "stable-1"})
    ):
        run = write_run(tmp_path / f"{number}", built, identity=changed)
        done = ask(built, "--iteration", 1, "--run", run)
        assert (done.code, "is not what the run was trained on" in done.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "asks for documents, or with --iteration for a batch"),
        (("web-1", "--iteration", 1, "--sequence", 8, "--batch", 1), "asks for documents, or with --iteration"),
        (("web-1", "--batch", 1), "go with --iteration"),
        (("--iteration", 1), "depends on sequence length and global batch size"),
        (("--iteration", 1, "--sequence", 8), "depends on sequence length and global batch size"),
        (("--iteration", 10**6, "--sequence", 8, "--batch", 1), "no iteration 1000000"),
        (("--iteration", 1, "--sequence", 8, "--batch", 1, "--order", "any"), "no order `any`"),
        (("--iteration", 1, "--run", "nowhere"), "holds no checkpoint"),
        (("--iteration", 1, "--run", "nowhere", "--seed", 3), "holds no checkpoint"),
    ],
)
def test_what_cannot_be_asked_is_told(built: Built, words, said):
    done = ask(built, *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_options_that_a_run_says_itself_are_refused(built: Built, tmp_path: Path):
    done = ask(built, "--iteration", 1, "--run", write_run(tmp_path, built), "--sequence", 64)
    assert (done.code, "--run says --sequence" in done.err) == (2, True)


@pytest.mark.parametrize("text", ["{", "{}", '{"data": {"identity": {}}}', '{"data": 3}'])
def test_a_run_that_does_not_say_what_it_read_is_refused(tmp_path: Path, text: str):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RecipeError, match="does not say what the run read"):
        settings_of_run(tmp_path)


def test_rows_of_a_batch_are_of_shape_sequence_and_one(built: Built):
    batch = next(iter(Batches(plan_of(built), batch=BATCH)))
    assert batch.tokens.shape == batch.documents.shape == batch.sources.shape == (BATCH, SEQUENCE + 1)
    assert (batch.tokens.dtype, batch.documents.dtype, batch.sources.dtype) == (np.int64, np.int32, np.int32)
