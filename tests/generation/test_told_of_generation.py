"""What users are told of generation: of pools and seeds that are not there, of what was rejected, at any width."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import marco
from rich.console import Console
from small_corpus import as_recipe, recipe_values, write_corpus

from marco_data.cli_build import plan_of
from marco_data.errors import RecipeError
from marco_data.generation.entry import Model
from marco_data.generation.generator import STOP, Completion
from marco_data.generation.maker import Made, Seed
from marco_data.generation.pools import ScriptedPool
from marco_data.generation.rounds import SpendingLimits
from marco_data.nodes.generate import reached
from marco_data.nodes.written import Answered, Wanted, Writer, documents_of, requests_of
from marco_data.plan_generation import check_generation
from marco_data.report import describe, print_requests
from marco_data.stage import Stage
from marco_data.tokenizer import Tokenizer
from marco_data.why import Answer

ROOT = Path(__file__).parents[2]
MODEL = Model(model="a", revision="1")


def wanted(language: str = "deu_Latn") -> Wanted:
    return Wanted(Seed("seed", "text", language, "web"), language, 0, 0, f"request {language}")


def answered(**made: object) -> Answered:
    return Answered(Made(prompts=("wikipedia@1",), **made), {"key": Completion("text", STOP, 3, 2)})  # type: ignore[arg-type]


def test_two_entries_that_ask_the_same_of_one_seed_write_two_documents() -> None:
    tokenizer = Tokenizer.load(ROOT / "recipes/sample/tokenizer.json", "<|endoftext|>")
    ids = []
    for entry, model in (("first", MODEL), ("second", Model(model="b", revision="1"))):
        writer = Writer(entry, "rephrase", "rephrase", model)
        table, _ = documents_of(writer, [wanted()], [answered(text=f"by {model.model}")], tokenizer)
        ids += table["id"].to_pylist()
    assert len(set(ids)) == 2


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, object]:
    values = recipe_values(write_corpus(tmp_path / "corpus"))
    values["generators"] = {"tiny": {"model": "nobody/tiny", "revision": "1"}}
    entry = {"maker": "generation_makers:Reprint", "generator": "tiny", "languages": ["deu_Latn"]}
    values["generate"] = {"rephrase": entry}
    values["mixture"] |= {"rephrase": {"weight": 1}}
    return values


def test_pools_of_which_the_recipe_uses_none_are_a_mistake(recipe: dict[str, object]) -> None:
    plan = plan_of(as_recipe(recipe))
    pool = ScriptedPool(kind="scripted", script="a:b")
    with pytest.raises(RecipeError, match=r"none of the pools.*tinny") as told:
        reached(plan, {"tinny": pool}, SpendingLimits(), {})
    assert "tiny" in (told.value.hint or "")
    assert reached(plan, {"tiny": pool, "another recipe's": pool}, SpendingLimits(), {}).nodes


def test_a_plan_tells_of_languages_without_seeds_and_of_generators_nobody_answers_for(
    recipe: dict[str, object],
) -> None:
    told = check_generation(plan_of(as_recipe(recipe)), [])
    assert [p.fatal for p in told] == [False, False]
    assert "nothing answers for the generator `tiny`" in told[0].message
    assert "`generate.rephrase` has no seeds for deu_Latn" in told[1].message


def test_why_shows_what_was_rejected_with_the_figure_and_its_beginning() -> None:
    row = {
        "maker": "rephrase",
        "language": "deu_Latn",
        "id": None,
        "reason": "copied",
        "measured": 0.9,
        "text": "Es\nwar",
    }
    fields = dict.fromkeys(Answer.__dataclass_fields__)
    told = describe(Answer(**{**fields, "language_shares": {}, "leaks": [], "made": [row]}))  # type: ignore[arg-type]
    assert "rephrase in deu_Latn: rejected: copied (measured 0.9): Es war" in told


@pytest.mark.parametrize("width", [80, 200])
def test_requests_are_readable_at_any_width(width: int) -> None:
    writer = Writer("rephrase", "rephrase", "rephrase", MODEL)
    both = [wanted(), wanted("tha_Thai")]
    rows = requests_of(
        writer, both, [answered(text="one"), answered(reason="options_not_distinct")], {"request deu_Latn": 7}
    )
    rows += (replace(rows[0], prompt="distill@1"),)
    stage = Stage("mine", 1, "stage-1", True, {}, {}, (), requests=tuple(row.to_row() for row in rows))
    out = io.StringIO()
    print_requests(Console(file=out, width=width), stage)
    text = out.getvalue()
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text
    assert ("wikipedia@1" in text) == (width == 200)
    for word in ("rephrase", "deu_Latn", "tha_Thai", "requested", "accepted", "  rejected: options_not_distinct 1"):
        assert word in text


def test_completions_of_a_root_without_a_ledger_are_not_exported_as_none(tmp_path: Path) -> None:
    done = marco("export-completions", "--root", tmp_path / "nowhere", "--out", tmp_path / "c.jsonl")
    assert done.code == 2
    assert "there is no ledger" in done.err
    assert not (tmp_path / "c.jsonl").exists()
