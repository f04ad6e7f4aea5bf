"""Generation in the embedded sample: no model, no network, and every wanted document ends as expected.jsonl says."""

import json
import shutil
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import marco

from marco_data.generation.generator import ERROR, NOT_RECORDED, REFUSED_BY_SERVER, TOO_LONG
from marco_data.generation.prompt import load_prompt
from marco_data.recipe import Recipe, load_recipe
from recipes.sample import make_completions

GENERATION = Path(make_completions.__file__).parent / "generation"
EXPECTED = [json.loads(line) for line in (GENERATION / "expected.jsonl").read_text(encoding="utf-8").splitlines()]
PARTS = {"rephrase": "rephrase", "qa": "multilingual_qa", "stem": "multilingual_stem", "mcq": "regional_mcq"}


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe(GENERATION.parent / "stage4.yaml")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("generated")


@pytest.fixture(scope="module")
def stats(root: Path) -> dict[str, Any]:
    done = marco("build-stage", 4, "--root", root, "--executor", "local", "--json")
    assert done.code == 0, done.err
    return dict(done.json)


def why(root: Path, *terms: str) -> list[dict[str, Any]]:
    done = marco("why", *terms, "--root", root, "--json")
    assert done.code == 0, done.err
    return done.lines


def test_the_ledger_has_every_document_that_was_generated_and_every_token_that_was_accepted(
    root: Path, stats: dict[str, Any]
) -> None:
    found = marco("ledger", 4, "--root", root, "--json").json
    for row in found["rows"]:
        out = [*row["dropped"].values(), *row["failed"].values(), row["replaced"], row["pending"]]
        assert row["collected"] + row["synthesized"] == sum(a["tokens"] for a in out) + row["written"]
        assert row["documents_read"] + row["documents_synthesized"] == (
            sum(a["documents"] for a in out) + row["documents_written"]
        )
    documents = stats["documents"]
    assert found["total"]["documents_synthesized"] == documents["generated"] > 0
    assert found["total"]["replaced"]["documents"] == documents["replaced"] > 0
    assert found["total"]["synthesized"] == sum(row["accepted_tokens"] for row in stats["requests_by"])
    assert found["steps"][-2:] == ["replace", "mix"]


@pytest.fixture(scope="module")
def seeds(root: Path, stats: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What `why` says of every seed, by its name."""
    names = sorted({line["seed"] for line in EXPECTED})
    return {answer["source_id"]: answer for answer in why(root, *names)}


def test_making_the_completions_again_gives_those_that_are_shipped(tmp_path: Path) -> None:
    assert make_completions.make(tmp_path) == []
    for name in ("completions.jsonl", "expected.jsonl"):
        assert (tmp_path / name).read_bytes() == (GENERATION / name).read_bytes(), name


def test_what_is_not_written_and_what_nothing_asks_for_is_named_and_nothing_is_made(tmp_path: Path) -> None:
    for path in GENERATION.glob("*.yaml"):
        shutil.copy(path, tmp_path)
    items = yaml.safe_load((GENERATION / "stem.yaml").read_text(encoding="utf-8"))
    first, second, third = items[:3]
    first["answers"]["stem_solve@1"].pop()
    second["answers"]["stem_solve@1"].append("Tres.")
    third["answers"]["stem_translate@1"] = [third["answers"]["stem_translate@1"][0].replace("\n324\n", "\n325\n")]
    absent = items.pop()
    items.append({**absent, "seed": "stem/no-such-text"})
    (tmp_path / "stem.yaml").write_text(yaml.safe_dump(items, allow_unicode=True), encoding="utf-8")
    wrong = make_completions.make(tmp_path / "out", tmp_path)
    named = [
        f"stem of {first['seed']} in spa_Latn: no answer number 2 to stem_solve@1",
        f"stem of {first['seed']} in spa_Latn: not_recorded",
        f"stem of {second['seed']} in spa_Latn: stem_solve@1 asks for less than 3 answers",
        f"stem of {third['seed']} in spa_Latn: answer_changed",
        f"stem of {third['seed']} in spa_Latn: stem_solve@1 asks for less than 2 answers",
        f"nothing is written for stem_explanations of {absent['seed']} in tur_Latn",
        "stem_explanations of stem/no-such-text in tur_Latn: no such document is wanted",
    ]
    assert len(wrong) == len(named)
    assert all(any(line.startswith(name) for line in wrong) for name in named), wrong
    assert not (tmp_path / "out").exists()


def test_every_wanted_document_ends_as_expected(recipe: Recipe, seeds: dict[str, dict[str, Any]]) -> None:
    expected, found = defaultdict(set), defaultdict(set)
    for line in EXPECTED:
        maker = recipe.generate[line["entry"]].make.name
        expected[line["seed"]].add((maker, line["language"], line.get("reason")))
    for name, answer in seeds.items():
        found[name] = {(made["maker"], made["language"], made["reason"]) for made in answer["made"]}
    assert found == expected


def test_the_books_count_what_is_expected(recipe: Recipe, stats: dict[str, Any]) -> None:
    reasons: dict[str, Counter[str]] = {maker: Counter() for maker in PARTS}
    for line in EXPECTED:
        reasons[recipe.generate[line["entry"]].make.name][line.get("reason", "")] += 1
    counted = {
        maker: {
            "requested": count.total(),
            "accepted": count[""],
            "rejected": {reason: n for reason, n in count.items() if reason},
        }
        for maker, count in reasons.items()
    }
    assert stats["requests"] == counted
    assert stats["balanced"]
    assert stats["documents"]["generated"] == sum(count[""] for count in reasons.values())


def test_every_reason_a_maker_can_give_is_shown_once_at_least(recipe: Recipe) -> None:
    reasons = {reason for entry in recipe.generate.values() for reason in entry.make.reasons}
    of_a_server = {ERROR, NOT_RECORDED, TOO_LONG, REFUSED_BY_SERVER}
    assert {line["reason"] for line in EXPECTED if "reason" in line} == reasons - of_a_server


def test_good_answers_come_in_more_than_ten_languages_from_all_four_makers(recipe: Recipe) -> None:
    accepted = {(recipe.generate[e["entry"]].make.name, e["language"]) for e in EXPECTED if e["verdict"] == "accepted"}
    assert {maker for maker, _ in accepted} == set(PARTS)
    assert len({language for _, language in accepted}) >= 20
    assert len({language for maker, language in accepted if maker == "rephrase"}) == 11


def test_every_accepted_document_is_kept_and_in_its_part(stats: dict[str, Any]) -> None:
    """Each has passed language ID, quality and dedup once more, and the budget takes them all."""
    for maker, part in PARTS.items():
        assert stats["parts"][part]["documents"] == stats["requests"][maker]["accepted"] > 0, part
        assert any(f"/{part}/" in shard for shard in stats["shards"])


def test_a_generated_document_leads_back_to_its_seed(root: Path, seeds: dict[str, dict[str, Any]]) -> None:
    parents = {made["id"]: answer["id"] for answer in seeds.values() for made in answer["made"] if made["id"]}
    answers = why(root, *parents)
    assert {answer["id"]: answer["origin"]["parent_ids"] for answer in answers} == {
        id: [parent] for id, parent in parents.items()
    }
    assert {answer["verdict"] for answer in answers} == {"kept"}
    assert {answer["origin"]["model"] for answer in answers} == {"written-by-hand@1"}
    assert all(answer["origin"]["completions"] for answer in answers)


def test_a_post_is_replaced_where_it_is_rewritten_and_stays_where_it_is_not(seeds: dict[str, dict[str, Any]]) -> None:
    for line in EXPECTED:
        if line["entry"].startswith("rephrase"):
            answer = seeds[line["seed"]]
            assert answer["quality_tier"] == "low"
            assert answer["verdict"] == ("replaced" if line["verdict"] == "accepted" else "kept")


def test_no_request_is_without_a_recorded_completion(root: Path, stats: dict[str, Any]) -> None:
    done = marco("prompts", 4, "--root", root)
    assert (done.code, done.out) == (0, "")


def test_an_edited_prompt_is_not_recorded_and_its_requests_are_listed(
    root: Path, stats: dict[str, Any], tmp_path: Path
) -> None:
    shipped = Path(load_prompt("diverse_qa@1").path).read_text(encoding="utf-8")
    edited = shipped.replace("Ask nothing twice.", "Ask nothing twice, and nothing that everybody knows.")
    assert edited != shipped
    (tmp_path / "my_qa.yaml").write_text(edited, encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(
        f"include: {GENERATION.parent / 'stage4.yaml'}\ngenerate: {{qa: {{make: {{prompt: my_qa.yaml}}}}}}\n",
        encoding="utf-8",
    )
    mine = ("--recipe", tmp_path / "mine.yaml", "--root", root)
    done = marco("build-stage", 4, *mine, "--executor", "local", "--json")
    assert done.code == 0, done.err
    asked = [line for line in EXPECTED if line["entry"] == "qa"]
    counts = done.json["requests"]
    assert counts["qa"]["rejected"]["not_recorded"] == len(asked)
    assert counts["mcq"] == stats["requests"]["mcq"]
    assert done.json["balanced"]
    listed = marco("prompts", 4, *mine, "--json")
    assert listed.code == 1
    assert {(line["entry"], line["prompt"]) for line in listed.lines} == {("qa", "my_qa")}
    assert sorted(line["language"] for line in listed.lines) == sorted(line["language"] for line in asked)
