"""What a plan expects: figures that add up, ranges that vanish where all was looked at, prices, and what happened."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import marco
from small_corpus import (
    CODES,
    Built,
    as_recipe,
    build,
    prose,
    recipe_values,
    row,
    write_corpus,
    write_jsonl,
    write_recipe,
)

from marco_data.dataset import Dataset
from marco_data.generation.estimate import Range
from marco_data.plan_expect import Expectation, expect, expectation_object, look
from marco_data.plan_flow import BYTES, DEDUP, DOCUMENTS, KEPT, TOKENS, Flow, counted, range_of, so_far
from marco_data.plan_price import Price, timed_in, timings
from marco_data.prices import load_prices
from marco_data.probe import Clock, Measured
from marco_data.storage import Storage

OLD_KEYS = {"stage", "fingerprint", "sources", "nodes", "generation"}
ALL_PRICES = """\
currency: EUR
cpu_core_hour: 0.05
gpu_hour: 2
disk_tb_month: 20
months: 3
write_requests_million: 5
read_requests_million: 0.4
egress_tb: 90
"""


def plan_of(values: dict[str, Any], **options: Any) -> Dataset:
    recipe = as_recipe(values)
    return recipe.pipeline_function()(recipe, **options)


def expectation(values: dict[str, Any], root: Path, documents: int = 100, **options: Any) -> Expectation:
    recipe, dataset = as_recipe(values), plan_of(values)
    return expect(recipe, dataset, Storage(str(root)), look(recipe, dataset, {}, documents), **options)


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return recipe_values(write_corpus(tmp_path_factory.mktemp("corpus") / "in")) | {"budget": 30_000}


@pytest.fixture(scope="module")
def built(values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(as_recipe(values), tmp_path_factory.mktemp("built") / "out")


@pytest.fixture(scope="module")
def seen(values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Expectation:
    """Of a probe that looks at every document, with all prices."""
    folder = tmp_path_factory.mktemp("prices")
    (folder / "prices.yaml").write_text(ALL_PRICES)
    return expectation(values, folder / "none", prices=load_prices(folder / "prices.yaml"))


# Figures


def test_where_all_was_looked_at_the_expectation_is_what_happens_and_has_no_range(
    values: dict[str, Any], built: Built, seen: Expectation
):
    real = counted(so_far(plan_of(values), built.storage, {}), Flow({}))
    for language in ("", *CODES):
        for outcomes in (None, (KEPT,), ("quality",), ("failed",)):
            foretold = seen.flow.total(outcomes=outcomes, language=language)
            happened = real.total(outcomes=outcomes, language=language)
            for figure in (DOCUMENTS, BYTES):
                assert range_of(foretold, figure).expected == pytest.approx(happened[0, figure])
            assert range_of(foretold, DOCUMENTS).spread == pytest.approx(0, abs=1e-9)
    kept = [flow.total(outcomes=(KEPT,))[0, TOKENS] for flow in (seen.flow, real)]
    assert kept[0] == pytest.approx(kept[1])
    assert kept[1] == sum(shard["tokens"] for shard in built.stage.shards) + sum(
        count.tokens for count in built.stage.counts if count.reason == "mix/not_selected"
    )


def test_languages_sources_and_steps_add_up_to_what_is_collected(seen: Expectation):
    told = expectation_object(seen)
    for figure in ("documents", "bytes", "tokens"):
        for kind in ("languages", "sources"):
            parts = sum(one["collected"][figure]["expected"] for one in told[kind].values())
            assert parts == pytest.approx(told["total"]["collected"][figure]["expected"])
        steps = [v[figure]["expected"] for name, v in told["total"].items() if name != "collected"]
        assert sum(steps) == pytest.approx(told["total"]["collected"][figure]["expected"])
    assert json.loads(json.dumps(told)) == told


def _many(folder: Path, documents: int) -> dict[str, Any]:
    """English and German prose in rows of very different length, so that a few say little of all."""
    texts = {code: "\n".join(prose(code)) for code in ("eng_Latn", "deu_Latn")}
    rows = []
    for n in range(documents):
        code = ("eng_Latn", "deu_Latn")[n % 2]
        start = 37 * n % 1000
        rows.append(row(code, 0, texts[code][start : start + 200 + 31 * n % 1700]) | {"id": str(n)})
    write_jsonl(folder / "many" / "a.jsonl.gz", rows)
    values = recipe_values(folder)
    values["sources"] = {"many": {"paths": [f"{folder}/many/*"], "fields": {"text": "text", "id": "id"}}}
    return values | {"mixture": {"many": {"weight": 1}}, "languages": ["eng_Latn", "deu_Latn"], "budget": 30_000}


def test_a_few_documents_foretell_the_others_within_a_range_that_narrows(tmp_path: Path):
    many = _many(tmp_path / "in", 600)
    everything = expectation(many, tmp_path / "none", 1000).flow.total()
    spreads = []
    for documents in (4, 40):  # of a source that declares no language eight times as many are looked at
        told = expectation(many, tmp_path / "none", documents).flow.total()
        assert told[0, DOCUMENTS] == pytest.approx(600)
        error = abs(told[0, BYTES] - everything[0, BYTES])
        spread = range_of(told, BYTES).spread
        assert spread is not None
        assert error <= 2 * spread
        spreads.append(spread)
    assert spreads[1] < spreads[0] / 2
    assert range_of(everything, BYTES).spread == pytest.approx(0, abs=1e-6)


def test_the_same_probe_says_the_same(tmp_path: Path):
    many = _many(tmp_path / "in", 100)
    first, second = (expectation(many, tmp_path / "none", 4).flow for _ in range(2))
    assert first.cells.keys() == second.cells.keys()
    assert all(np.array_equal(first.cells[cell], second.cells[cell]) for cell in first.cells)


def test_copies_among_the_documents_are_expected_to_be_dropped(tmp_path: Path):
    corpus = write_corpus(tmp_path / "in")
    write_jsonl(corpus / "web" / "z.jsonl", [row("eng_Latn", 0) | {"id": f"copy-{n}"} for n in range(8)])
    flow = expectation(recipe_values(corpus), tmp_path / "none").flow
    assert flow.total(outcomes=(DEDUP,), language="eng_Latn")[0, DOCUMENTS] == pytest.approx(8)
    assert flow.total(outcomes=(DEDUP,))[0, DOCUMENTS] == pytest.approx(8)


def test_copies_in_a_part_of_the_documents_are_expected_in_all_of_them(tmp_path: Path):
    text = prose("eng_Latn")[0]
    rows = [row("eng_Latn", 0, text if n % 4 else f"{text[n:]} {text[:n]}") | {"id": str(n)} for n in range(400)]
    write_jsonl(tmp_path / "in" / "many" / "a.jsonl", rows)
    many = _many(tmp_path / "in", 1)
    (tmp_path / "in" / "many" / "a.jsonl.gz").unlink()
    flow = expectation(many, tmp_path / "none", 8).flow
    assert 200 < flow.total(outcomes=(DEDUP,))[0, DOCUMENTS] <= 400


def clocks(take: Callable[[int, int, float], float]) -> Measured:
    """Clocks that show what `take` says of files, calls and bytes."""
    measured = Measured(Clock(), Clock(), Clock())
    sizes = ((measured.alone, 4, 4, 0.0), (measured.few, 1, 30, 0.0), (measured.all, 1, 40, 900_000.0))
    for clock, files, calls, size in sizes:
        clock.seconds["measure"] = take(files, calls, size)
        clock.files["measure"], clock.calls["measure"], clock.sizes["measure"] = files, calls, size
    return measured


@pytest.mark.parametrize(
    ("file", "call", "unit"), [(0.02, 0.01, 2e-6), (0.0, 0.0, 1e-6), (0.01, 0.005, 0.0), (0.0, 0.05, 3e-6)]
)
def test_what_a_file_a_call_and_a_byte_take_are_told_apart(file: float, call: float, unit: float):
    speed = clocks(lambda files, calls, size: file * files + call * calls + unit * size).seconds("measure")
    assert [speed.a_file, speed.a_call, speed.a_unit] == pytest.approx([file, call, unit], abs=1e-12)
    assert speed.of(10, 100, np.array([1e9]))[0] == pytest.approx(10 * file + 100 * call + 1e9 * unit)


def test_times_that_noise_has_turned_round_are_still_no_less_than_nothing():
    speed = clocks(lambda files, calls, size: 5.0 if size == 0 else 4.0).seconds("measure")
    assert min(speed.a_file, speed.a_call, speed.a_unit) >= 0
    assert speed.of(1, 40, np.array([900_000.0]))[0] == pytest.approx(4.0)


# A root that holds part of it


def test_after_a_build_all_is_counted_and_nothing_is_left_to_do(values: dict[str, Any], built: Built):
    told = marco(
        "plan", write_recipe(Path(built.storage.root).parent / "r.yaml", values), "--root", built.storage.root, "--json"
    )
    expected = told.json["expected"]
    assert expected["notes"][0].startswith("counted in this root")
    assert expected["price"]["left_cpu_hours"]["expected"] == 0
    seconds = {line["what"]: line for line in expected["price"]["cpu_seconds"]}
    assert all("timed in this root" in line["basis"] for line in seconds.values())
    drawn = {key: share["target"] for key, share in expected["drawn"].items()}
    assert drawn == {f"{s['part']}/{s['language']}": s["target"] for s in built.stage.mix["allocation"]["shares"]}


def test_a_build_of_a_sample_is_a_larger_probe(values: dict[str, Any], tmp_path: Path):
    corpus = tmp_path / "in"
    for number in range(4):
        write_jsonl(corpus / f"{number}.jsonl", [row("eng_Latn", n % 3) | {"id": f"{number}-{n}"} for n in range(5)])
    many = values | {
        "sources": {"web": {"paths": [str(corpus)], "fields": {"text": "text", "id": "id"}}},
        "mixture": {"web": {"weight": 1}},
    }
    keys = sorted(int(t.key[-12:], 16) / 16**12 for t in plan_of(many).node("measure").tasks(_nowhere(tmp_path)))
    build(as_recipe(many), tmp_path / "out", sample=(keys[1] + keys[2]) / 2)
    told = expectation(many, tmp_path / "out", 1)
    assert told.notes[0] == "counted in this root: web (50% of its bytes)"
    assert told.flow.total()[0, DOCUMENTS] == pytest.approx(20, rel=0.02)


def _nowhere(folder: Path) -> Any:
    from marco_data.dataset import Context
    from marco_data.step import Tools

    return Context(Storage(str(folder / "none")), Tools(), {})


def test_the_run_log_knows_the_processor_seconds_of_every_task(built: Built, values: dict[str, Any]):
    found = so_far(plan_of(values), built.storage, {})
    timed = timed_in(built.storage, found, plan_of(values))
    assert timed.keys() == found.records.keys()
    assert timed["measure"][0] > 0
    assert timed["measure"][1] == len(found.records["measure"])
    assert sum(map(len, timings(built.storage).values())) == sum(n for _, n in timed.values())


def test_a_source_that_is_not_here_is_left_out_and_named(values: dict[str, Any], tmp_path: Path):
    away = json.loads(json.dumps(values))
    away["sources"]["web"]["paths"] = [str(tmp_path / "elsewhere" / "*.jsonl")]
    told = marco("plan", write_recipe(tmp_path / "r.yaml", away), "--root", tmp_path / "none", "--json").json[
        "expected"
    ]
    assert list(told["sources"]) == ["books"]
    assert told["total"]["collected"]["documents"]["expected"] == len(CODES)
    assert any("not in this estimate: source `web`" in note for note in told["notes"])


def test_a_tokenizer_that_is_not_here_leaves_the_plan_without_an_expectation(values: dict[str, Any], tmp_path: Path):
    path = write_recipe(tmp_path / "r.yaml", values | {"tokenizer": {"path": str(tmp_path / "no.json")}})
    told = marco("plan", path, "--root", tmp_path / "none", "--json")
    assert (told.code, told.json["expected"]) == (0, None)
    assert "no.json" in told.json["not_expected"]


# Prices


def test_every_item_has_its_price_and_they_add_up(seen: Expectation):
    price = seen.price
    items = {"processors", "disk", "write requests", "read requests", "egress"}
    assert price.cost.keys() == items
    assert price.unknown == ()
    known = {name: figure.expected for name, figure in price.cost.items() if figure}
    assert price.total is not None
    assert price.total.expected == pytest.approx(sum(known.values()))
    assert known["processors"] == pytest.approx(price.cpu_hours.expected * 0.05)
    assert known["disk"] == pytest.approx(price.disk_bytes.expected / 1e12 * 20 * 3)
    assert price.currency == "EUR"


def test_what_has_no_price_is_named_and_not_in_the_sum(values: dict[str, Any], tmp_path: Path):
    (tmp_path / "prices.yaml").write_text("currency: USD\ncpu_core_hour: 1\n")
    price = expectation(values, tmp_path / "none", 4, prices=load_prices(tmp_path / "prices.yaml")).price
    assert price.total is not None
    assert price.total.expected == pytest.approx(price.cpu_hours.expected)
    assert "disk (no `disk_tb_month`)" in price.unknown


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "currency: USD\ncpu_core_hours: 1\n",
            "prices.yaml:2: unknown key `cpu_core_hours`; did you mean `cpu_core_hour`?",
        ),
        ("cpu_core_hour: 1\n", "the key `currency` is missing"),
        ("currency: USD\ngpu_hour: -1\n", "prices.yaml:2: `gpu_hour`"),
        ("currency: dollars\n", "prices.yaml:1: `currency`"),
    ],
)
def test_a_mistake_in_the_prices_is_told_with_its_line(tmp_path: Path, text: str, says: str):
    (tmp_path / "prices.yaml").write_text(text)
    done = marco("plan", 3, "--root", tmp_path / "none", "--prices", tmp_path / "prices.yaml")
    assert done.code == 2
    assert says in done.err


def test_the_example_prices_are_prices():
    assert load_prices(Path(__file__).parents[1] / "infra" / "prices.yaml").currency == "USD"


def test_more_documents_take_more_disk_requests_and_memory(tmp_path: Path):
    small, large = (expectation(_many(tmp_path / str(n), n), tmp_path / "none", 1000).price for n in (50, 200))

    def sizes(price: Price) -> list[Range]:
        return [price.disk_bytes, *(line.figure for line in price.requests), *(line.figure for line in price.memory)]

    assert all(a.expected <= b.expected for a, b in zip(sizes(small), sizes(large), strict=True))
    assert small.disk_bytes.expected < large.disk_bytes.expected


def test_a_worker_needs_more_memory_for_larger_shards_and_partitions(values: dict[str, Any], tmp_path: Path):
    def memory(changed: dict[str, Any]) -> dict[str, float]:
        return {m.what: m.figure.expected for m in expectation(values | changed, tmp_path / "none", 4).price.memory}

    usual = memory({})
    assert memory({"shards": {"bytes": 256 << 20}})["measure"] > usual["measure"]
    assert memory({"steps": {"dedup": {"partition": 5}}})["dedup"] < usual["dedup"]


# The command


def test_the_sample_is_foretold_with_the_keys_that_scripts_know(tmp_path: Path):
    told = marco("plan", 3, "--root", tmp_path / "none", "--json").json
    assert told.keys() >= OLD_KEYS
    expected = told["expected"]
    assert expected["total"]["kept"]["tokens"]["expected"] > 50_000
    assert len(expected["languages"]) >= 64
    assert {short["part"] for short in expected["short"]} >= {"nemotron_high_synthetic", "stem"}


def test_the_printed_plan_has_totals_and_every_language_only_where_asked(values: dict[str, Any], tmp_path: Path):
    recipe = write_recipe(tmp_path / "r.yaml", values)
    brief = marco("plan", recipe, "--root", tmp_path / "none").out
    assert "CPU-hours" in brief
    assert "drawn by the mixture" in brief
    assert "zho_Hans Chinese" not in brief.partition("will fall short")[0]
    whole = marco("plan", recipe, "--root", tmp_path / "none", "--by-language").out
    assert "expected by language" in whole
    assert "zho_Hans Chinese" in whole.partition("what it takes")[0]


def test_without_a_probe_the_plan_is_what_it_was(values: dict[str, Any], tmp_path: Path):
    told = marco("plan", write_recipe(tmp_path / "r.yaml", values), "--root", tmp_path / "none", "--probe", 0, "--json")
    assert told.json["expected"] is None
    assert told.json["not_expected"] == "--probe 0"
    assert told.json["nodes"]


# What happened


def test_compare_says_by_step_and_language_how_far_off_it_was(values: dict[str, Any], built: Built, tmp_path: Path):
    recipe = write_recipe(tmp_path / "r.yaml", values)
    told = marco("plan", recipe, "--root", built.storage.root, "--compare", "--json")
    lines = {(c["step"], c["language"], c["figure"]): c for c in told.json["compared"]}
    for figure in ("documents", "bytes"):
        assert lines["collected", "all", figure]["error"] == pytest.approx(0)
        assert lines["kept", "rus_Cyrl", figure]["error"] == pytest.approx(0)
    assert lines["kept", "all", "tokens"]["error"] == pytest.approx(0)
    assert lines["drawn", "all", "tokens"]["error"] == pytest.approx(0)
    assert {"measure", "dedup", "tokenize", "shards", "all"} <= {of for step, of, _ in lines if step == "disk"}
    assert ("cpu", "all", "seconds") in lines
    # Twenty-one documents take no time and hardly a disk: these totals are told and not judged.
    assert (told.code, told.json["off"]) == (0, [])
    judged = {(c["step"], c["figure"]) for c in told.json["compared"] if c["judged"]}
    assert judged == {
        ("drawn", "tokens"),
        *((s, f) for s in ("collected", "kept") for f in ("documents", "bytes", "tokens")),
    }


def test_a_total_that_is_far_off_makes_compare_exit_one(tmp_path: Path):
    # Sixteen documents are looked at, evenly apart: every fifth of them is long, and those looked at are all short.
    long, brief = " ".join(prose("eng_Latn")), prose("eng_Latn")[0]
    rows = [
        row("eng_Latn", 0, f"{long[n:]} {n}" if n % 5 == 0 else f"{brief[n:]} {n}") | {"id": str(n)} for n in range(80)
    ]
    write_jsonl(tmp_path / "in" / "a.jsonl", rows)
    mine = recipe_values(tmp_path / "in") | {
        "sources": {"web": {"paths": [str(tmp_path / "in")], "fields": {"text": "text", "id": "id"}}},
        "mixture": {"web": {"weight": 1}},
        "languages": ["eng_Latn"],
        "limits": {"removal": None},
    }
    build(as_recipe(mine), tmp_path / "out")
    recipe = write_recipe(tmp_path / "r.yaml", mine)
    told = marco("plan", recipe, "--root", tmp_path / "out", "--compare", "--probe", 1)
    assert told.code == 1
    assert "off by more than 20%: collected bytes" in told.out


def test_compare_without_a_build_is_the_commands_mistake(values: dict[str, Any], tmp_path: Path):
    done = marco("plan", write_recipe(tmp_path / "r.yaml", values), "--root", tmp_path / "none", "--compare")
    assert done.code == 2
    assert "not built in this root" in done.err


def test_a_plan_writes_nothing_to_its_root(values: dict[str, Any], tmp_path: Path):
    assert expectation(values, tmp_path / "none").flow.cells
    assert not (tmp_path / "none").exists()


def test_a_line_of_a_run_log_that_a_kill_cut_off_hides_no_other(tmp_path: Path):
    storage = Storage(str(tmp_path))
    whole = {"node": "measure", "task": "web-a-000", "error": None, "processor": 1.5}
    storage.replace("runs/1-a-00000.jsonl", json.dumps(whole).encode() + b'\n{"node": "meas')
    assert timings(storage) == {"measure": {"web-a-000": 1.5}}
