"""The recipes that ship: they load, they are the charts', and every source's rows are read as it maps them."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

import recipes
from marco_data.languages import LANGUAGES
from marco_data.mix import allocate
from marco_data.recipe import Recipe, load_recipe
from marco_data.sources import Source, check_fields, list_files, read_slice, split

FOLDER = Path(recipes.__file__).parent
FILES = sorted(FOLDER.glob("*/stage*.yaml"))

# Per cent of each stage, read off the charts of arXiv 2604.25578: stages 1 to 4.
CHART: dict[str, tuple[float | None, ...]] = {
    "nemotron_high": (20.54, 3.33, None, None),
    "nemotron_high_synthetic": (19.5, 23.33, 14.3, 4.77),
    "code": (3.42, 2.28, 1.22, 0.41),
    "stem": (12.32, 20.94, 11.22, 3.74),
    "wiki": (0.27, 0.18, 0.10, 0.03),
    "math": (10.79, 6.07, 3.25, 1.08),
    "academic": (0.41, 0.27, 0.15, 0.05),
    "synthetic": (1.8, 12.93, 6.93, 2.31),
    "instruction": (1.0, 0.67, 0.36, 0.12),
    "multilingual_web": (30.01, 30.0, 62.5, 87.5),
}
LANGUAGE_SUMS = (30.0, 31.3, 62.7, 87.4)
MULTILINGUAL = (
    "multilingual_web",
    "multilingual_curated",
    "rephrase",
    "multilingual_qa",
    "multilingual_stem",
    "regional_mcq",
)
"""The parts that the charts have as one."""
BUDGETS = (2_400, 1_700, 500, 500)  # billions of tokens

# What the rows of each data set look like, as far as it is known: column -> an example.
DOLMA = {"id": "d-{}", "text": "Text {}.", "source": "x", "added": "2024-01-01", "metadata": {"a": 1}}
SPECIALIZED = {
    "text": "Text {}.",
    "uuid": "u-{}",
    "license": "cc-by-4.0",
    "metadata": {"category": "x", "models_used": "y"},
}
SHAPES: dict[str, dict[str, Any]] = {
    "nvidia/Nemotron-CC-v2": {"text": "Text {}."},
    "nvidia/Nemotron-CC-v2.1": {"text": "Text {}."},
    "nvidia/Nemotron-Pretraining-SFT-v1": {"text": "Text {}."},
    "nvidia/Nemotron-Pretraining-Specialized-v1": SPECIALIZED,
    "nvidia/Nemotron-CC-Math-v1": {"id": "m-{}", "text": "Text {}.", "metadata": {"models_used": ["a"]}},
    "nvidia/OpenMathInstruct-2": {
        "problem": "What is {}?",
        "generated_solution": "Text {}.",
        "expected_answer": "{}",
        "problem_source": "x",
    },
    "HuggingFaceTB/finemath": {
        "url": "https://example.org/{}",
        "fetch_time": 1,
        "text": "Text {}.",
        "token_count": 3,
        "score": 4.5,
        "language": "en",
    },
    "LLM360/MegaMath": {"text": "Text {}."},
    "allenai/dolmino-mix-1124": DOLMA,
    "allenai/dolma3_dolmino_mix-100B-1125": DOLMA,
    "HuggingFaceFW/fineweb-2": {
        "text": "Text {}.",
        "id": "<urn:uuid:{}>",
        "dump": "CC-MAIN-2024-10",
        "url": "https://example.org/{}",
        "language": "x",
        "language_score": 0.9,
        "minhash_cluster_size": 1,
    },
    "epfml/FineWeb2-HQ": {
        "text": "Text {}.",
        "id": "<urn:uuid:{}>",
        "url": "https://example.org/{}",
        "quality_score": 0.3,
    },
    "opencsg/Fineweb-Edu-Chinese-V2.1": {"text": "Text {}.", "score": 0.8},
}


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_recipe_is_where_its_family_and_stage_say(path: Path) -> None:
    recipe = load_recipe(path)
    # Before its branch the Global family is Mini: one build, not two.
    shared = {f"marco-mini-global/stage{n}": f"marco-mini/stage{n}" for n in (1, 2)}
    assert shared.get(name_of(path), name_of(path)) == f"{recipe.family}/stage{recipe.stage}"
    assert recipe.budget is not None
    assert set(recipe.languages) <= set(LANGUAGES)


def test_each_family_has_its_stages() -> None:
    stages: dict[str, list[int]] = {}
    for path in FILES:
        stages.setdefault(path.parent.name, []).append(load_recipe(path).stage)
    whole = [1, 2, 3, 4]
    assert stages == {"marco-mini": whole, "marco-mini-global": whole, "marco-nano": whole, "sample": whole}


@pytest.mark.parametrize("family", ["marco-mini", "marco-nano"])
@pytest.mark.parametrize("stage", [1, 2, 3, 4])
def test_the_real_mixtures_are_the_charts(family: str, stage: int) -> None:
    recipe = load_recipe(FOLDER / family / f"stage{stage}.yaml")
    chart = {name: row[stage - 1] for name, row in CHART.items() if row[stage - 1] is not None}
    assert charted(recipe) == chart
    assert recipe.budget == BUDGETS[stage - 1] * 10**9
    shares = recipe.mixture["multilingual_qa" if stage == 4 else "multilingual_web"].languages
    assert shares is not None
    assert sum(shares.values()) == pytest.approx(LANGUAGE_SUMS[stage - 1])
    assert set(shares) == set(recipe.languages) - {"eng_Latn"}


def charted(recipe: Recipe) -> dict[str, Any]:
    """The weights of a mixture, the parts that the charts have as one together."""
    weights = {name: part.weight for name, part in recipe.mixture.items()}
    together = sum(weights.pop(name) for name in MULTILINGUAL if name in weights)
    return {**weights, "multilingual_web": pytest.approx(together)}


@pytest.mark.parametrize("family", ["marco-mini", "marco-mini-global"])
def test_generated_parts_leave_each_language_the_share_that_the_chart_has(family: str) -> None:
    recipe = load_recipe(FOLDER / family / "stage4.yaml")
    chart = recipe.mixture["multilingual_qa"].languages
    assert chart is not None
    shares = dict.fromkeys(chart, 0.0)
    for name in MULTILINGUAL:
        if name in recipe.mixture:
            languages = recipe.mixture[name].languages
            assert languages is not None
            for code, share in languages.items():
                shares[code] += recipe.mixture[name].weight * share / sum(languages.values())
    for code, share in chart.items():
        assert shares[code] == pytest.approx(87.5 * share / sum(chart.values()), rel=5e-3), code


@pytest.mark.parametrize("family", ["marco-mini", "marco-nano", "marco-mini-global", "sample"])
def test_stage_4_generates_with_all_four_makers_into_parts_of_their_names(family: str) -> None:
    recipe = load_recipe(FOLDER / family / "stage4.yaml")
    parts = {entry.make.name: entry.make.part for entry in recipe.generate.values()}
    assert parts == {
        "rephrase": "rephrase",
        "qa": "multilingual_qa",
        "stem": "multilingual_stem",
        "mcq": "regional_mcq",
    }
    assert set(parts.values()) <= set(recipe.mixture)
    assert {entry.maker for entry in recipe.generate.values()} >= {"qa", "qa_translation"}


def test_the_languages_that_are_rephrased_are_those_whose_part_is_so() -> None:
    for family in ("marco-mini", "marco-mini-global"):
        recipe = load_recipe(FOLDER / family / "stage4.yaml")
        assert set(recipe.generate["rephrase"].languages) == set(recipe.mixture["rephrase"].languages or ())


@pytest.mark.parametrize("family", ["marco-mini", "marco-mini-global", "sample"])
def test_stage_4_judges_what_is_read_as_the_stages_before_it(family: str) -> None:
    third, fourth = (load_recipe(FOLDER / family / f"stage{n}.yaml").steps.quality for n in (3, 4))
    generated = {"multilingual_qa", "multilingual_stem", "regional_mcq"}
    assert fourth == third.model_copy(update={"exempt": fourth.exempt})
    assert set(fourth.exempt) == {*third.exempt, *generated}


@pytest.mark.parametrize("stage", [1, 2, 3, 4])
def test_the_sample_has_the_parts_and_weights_of_the_real_stage(stage: int) -> None:
    assert charted(sample(stage)) == {name: row[stage - 1] for name, row in CHART.items() if row[stage - 1] is not None}


def sample(stage: int) -> Recipe:
    return load_recipe(FOLDER / "sample" / f"stage{stage}.yaml")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_weights_are_normalised_to_the_whole_budget(path: Path) -> None:
    recipe = load_recipe(path)
    parts = allocate({}, recipe.mixture, recipe.budget).parts
    assert sum(part.requested for part in parts) == recipe.budget
    assert sum(part.requested_weight for part in parts) == pytest.approx(1.0)
    # The charts' rounding moves no weight by more than a thousandth of itself.
    for part in parts:
        assert part.requested_weight == pytest.approx(recipe.mixture[part.part].weight / 100, rel=1e-3)


def test_languages_grow_with_the_stages() -> None:
    mini = [set(load_recipe(FOLDER / "marco-mini" / f"stage{n}.yaml").languages) for n in (1, 2, 3, 4)]
    assert [len(languages) for languages in mini] == [20, 20, 29, 29]
    assert mini[2] - mini[1] == {
        "ben_Beng", "ces_Latn", "urd_Arab", "kaz_Cyrl", "ell_Grek", "ron_Latn", "hun_Latn", "npi_Deva", "azj_Latn",
    }  # fmt: skip
    for stage in (3, 4):
        assert set(load_recipe(FOLDER / "marco-mini-global" / f"stage{stage}.yaml").languages) == set(LANGUAGES)


def test_nano_differs_from_mini_by_its_name_only() -> None:
    for stage in (1, 2, 3, 4):
        nano = load_recipe(FOLDER / "marco-nano" / f"stage{stage}.yaml")
        mini = load_recipe(FOLDER / "marco-mini" / f"stage{stage}.yaml")
        assert nano.model_copy(update={"family": "marco-mini", "seed": ""}) == mini
        assert nano.family_seed == mini.family_seed


def test_global_continues_mini_after_stage_2_in_minis_order_of_documents() -> None:
    third, fourth = (load_recipe(FOLDER / "marco-mini-global" / f"stage{n}.yaml") for n in (3, 4))
    mini = load_recipe(FOLDER / "marco-mini" / "stage2.yaml")
    assert (third.after, fourth.after) == ("marco-mini/2", "previous")
    assert third.family_seed == fourth.family_seed == mini.family_seed
    assert (third.budget or 0) + (fourth.budget or 0) == 1_400 * 10**9
    shares = fourth.mixture["multilingual_qa"].languages
    assert shares is not None
    assert len(set(shares.values())) == 1


def real_sources() -> dict[str, Source]:
    found: dict[str, Source] = {}
    for path in FILES:
        if path.parent.name != "sample":
            found |= load_recipe(path).sources
    return found


def test_every_source_that_is_described_is_used() -> None:
    used = {name for path in FILES for name in load_recipe(path).used_sources if path.parent.name != "sample"}
    assert used == set(real_sources())


def write_rows(path: Path, shape: dict[str, Any]) -> None:
    rows = [{k: v.format(i) if isinstance(v, str) else v for k, v in shape.items()} for i in range(3)]
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(zstandard.ZstdCompressor().compress(lines))


def made_up(name: str, source: Source, root: Path) -> Source:
    """The source with three rows at each of its paths, below `root`."""
    paths = []
    for uri in source.paths:
        owner, data_set, inside = uri.removeprefix("hf://datasets/").split("/", 2)
        shape = SHAPES[f"{owner}/{data_set}"]
        file = inside.replace("{language}", "cmn_Hani").replace("**/*", "deep/part_0").replace("*", "0")
        if not file.endswith((".parquet", ".zst")):
            file = file.removesuffix("00") + "deep/part_0.jsonl.zst"
        write_rows(root / name / data_set / file, shape)
        if "{language}" in inside:  # FineWeb-2 has a thousand languages that are not ours
            foreign = inside.replace("{language}", "aai_Latn").replace("*", "0")
            write_rows(root / name / data_set / foreign, shape)
        paths.append(str(root / name / data_set / inside))
    return source.model_copy(update={"paths": tuple(paths)})


@pytest.mark.parametrize("name", sorted(real_sources()))
def test_three_rows_of_the_sources_shape_are_read_as_the_recipe_maps_them(name: str, tmp_path: Path) -> None:
    described = real_sources()[name]
    source = made_up(name, described, tmp_path)
    files = list_files(name, source, languages=tuple(LANGUAGES))
    assert len(files) == len(source.paths)
    check_fields(files[0], source)
    rows = [
        row for piece in split(files, 1 << 20) for batch in read_slice(piece, name, source) for row in batch.to_pylist()
    ]
    assert [row["failed"] for row in rows] == [None] * 3 * len(files)
    assert {row["text"] for row in rows} == {"Text 0.", "Text 1.", "Text 2."}
    assert all((row["source_id"] is not None) == (source.fields.id is not None) for row in rows)
    assert all((row["url"] is not None) == (source.fields.url is not None) for row in rows)
    assert all(row["licence"] for row in rows)
    declared = {"en": "eng_Latn", "zh": "zho_Hans", None: None}[source.language]
    if "{language}" in source.paths[0]:
        declared = "zho_Hans"
    assert {row["declared_language"] for row in rows} == {declared}
