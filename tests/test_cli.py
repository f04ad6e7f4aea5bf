"""The contract of the command line, which others script against: commands, options, exit codes, streams, JSON."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import typer
from command_line import Result, marco
from planted_corpus import PLANTED, planted_values, write_planted
from small_corpus import prose, recipe_values, write_recipe

from marco_data.cli import app
from marco_data.languages import LANGUAGES

HERE = Path(__file__).parent
BUILD = {"--family", "--recipe", "--root", "--languages", "--input", "--field", "--budget"}
SURFACE = {
    "build-stage": BUILD
    | {
        *("--executor", "--address", "--workers", "--pools", "--max-gpu-hours", "--max-cost"),
        *("--sample", "--only", "--waive", "--verify", "--json"),
    },
    "retry": {
        *("--reason", "--family", "--recipe", "--root", "--languages", "--entry", "--executor", "--address"),
        *("--workers", "--pools", "--max-gpu-hours", "--max-cost", "--json"),
    },
    "doctor": {"--recipe", "--root", "--address", "--pools", "--env", "--json"},
    "submit": {
        *("--address", "--root", "--pools", "--env", "--workers", "--max-gpu-hours", "--max-cost", "--executor"),
        *("--follow", "-f", "--json"),
    },
    "jobs list": {"--address", "--json"},
    "jobs status": {"--address", "--json"},
    "jobs logs": {"--address", "--root", "--follow", "-f"},
    "jobs stop": {"--address"},
    "jobs resume": {"--address", "--root", "--follow", "-f"},
    "jobs": set(),
    "export-completions": {"--out", "--root"},
    "prompts": {"--family", "--recipe", "--root", "--entry", "--json"},
    "plan": BUILD | {"--pools", "--sample", "--verify", "--probe", "--prices", "--by-language", "--compare", "--json"},
    "stats": BUILD | {"--json", "--csv", "--disk", "--slow"},
    "prune": {"--keep", "--root", "--yes", "--json"},
    "removed": {"--family", "--recipe", "--root", "--languages", "--budget", "--json"},
    "ledger": BUILD | {"--by", "--strict", "--json", "--csv"},
    "why": BUILD | {"--stage", "--iteration", "--run", "--sequence", "--batch", "--order", "--seed", "--json"},
    "find": BUILD | {"--stage", "--most", "--json"},
    "failures": BUILD | {"--json"},
    "duplicates": BUILD
    | {"--sample", "--seed", "--language", "--source", "--reason", "--rehydrate", "--csv", "--json"},
    "dashboard": {"--root", "--family", "--stage", "--port", "--host", "--export"},
    "index-benchmarks": {"--family", "--recipe", "--reference", "--field", "--out"},
    "languages": {"--json"},
    "languages derive": {"--from", "--code", "--out", "--like", "--name", "--field", "--json"},
    "validate": set(),
    "recipe": set(),
    "recipe diff": {"--json"},
    "recipe show": {"--resolved", "--json"},
    "recipe pin": {"--write", "--json"},
    "recipe schema": {"--out", "--part", "--languages-from"},
    "init": {
        *("--languages", "--budget", "--tokenizer", "--input", "--field", "--end-of-document", "--family", "--stage"),
        "--out",
    },
    "train": {
        *("--family", "--recipe", "--root", "--out", "--initial", "--nproc", "--ranks", "--ep", "--micro-batch"),
        *("--recompute", "--compile", "--checkpoint-every", "--keep", "--log-every"),
        *("--signatures-every", "--peak-flops", "--gpu-memory", "--stop-after", "--dry-run", "--verify", "--json"),
    },
    "train-tokenizer": {"--text", "--out", "--vocab-size"},
    "upcycle": {
        *("--from", "--to", "--out", "--scale", "--router", "--drop", "--seed", "--dtype", "--tokens", "--json"),
    },
    "export": {"--to", "--tokenizer", "--dtype", "--from-hf"},
    "model-info": {"--seq", "--micro-batch", "--dp", "--ep", "--recompute", "--json"},
}
WHY_KEYS = {"id", "source_id", "verdict", "reason", "measured", "duplicate_of"}


def test_commands_and_options_are_those_that_scripts_know():
    commands = dict(typer.main.get_command(app).commands)
    for group in ("languages", "recipe", "jobs"):
        commands |= {f"{group} {name}": command for name, command in commands[group].commands.items()}
    surface = {name: {o for p in c.params for o in p.opts if o.startswith("-")} for name, c in commands.items()}
    surface.pop("train-language-id", None)
    assert surface == SURFACE


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the planted corpus, its recipe `r.yaml` and its build in `out`."""
    folder = tmp_path_factory.mktemp("site")
    write_recipe(folder / "r.yaml", planted_values(write_planted(folder / "in")) | {"budget": 3000})
    built = marco("build-stage", 3, "--recipe", folder / "r.yaml", "--root", folder / "out", "--executor", "local")
    assert built.code == 0, built.err
    (folder / "built.txt").write_text(built.out)
    (folder / "built.err").write_text(built.err)
    return folder


def ask(site: Path, command: str, *words: object, **options: Any) -> Result:
    return marco(command, *words, "--family", "small", "--root", site / "out", **options)


# Streams and exit codes


def test_the_installed_script_gives_data_on_stdout_progress_on_stderr_and_its_exit_code(site: Path):
    script = Path(sys.executable).with_name("marco-data")
    root = ["--root", site / "out"]

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        # From here, because the recipe names steps of a module that lies here.
        return subprocess.run([script, *map(str, words)], capture_output=True, text=True, check=False, cwd=HERE)

    done = run("build-stage", 3, "--recipe", site / "r.yaml", *root, "--executor", "local", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["balanced"] is True
    assert "measure" in done.stderr
    missing = run("why", "nobody", "--family", "small", *root)
    assert (missing.returncode, missing.stdout) == (1, "")


def test_every_script_is_read_and_written_in_any_locale(site: Path):
    script = Path(sys.executable).with_name("marco-data")
    root = ("--family", "small", "--root", site / "out")
    (tha,) = ask(site, "why", "tha-3", "--json").lines
    words = prose("rus_Cyrl")[0][40:70]
    latin = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    found = subprocess.run([script, "find", words, *root, "--json"], capture_output=True, env=latin, check=False)
    assert found.stdout.decode() == ask(site, "find", words, "--json").out
    asked = b"\xff\n" + tha["id"].encode() + b"\n"
    told = subprocess.run([script, "why", "-", *root], capture_output=True, input=asked, env=latin, check=False)
    assert (told.returncode, told.stderr.decode()) == (1, "not found in this stage: \\xff\n")
    assert b"tha-3: " in told.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["build-stage", "3", "--family", "sampel"], "no recipe family `sampel`"),
        (["build-stage", "3", "--recipe", "none.yaml"], "no recipe at `none.yaml`"),
        (["build-stage", "3", "--executor", "slurm"], "no executor `slurm`"),
        (["build-stage", "3", "--executor", "local", "--address", "ray://x:1"], "--address is for the ray executor"),
        (["build-stage", "3", "--languages", "xx"], "xx"),
        (["build-stage", "3", "--budget", "lots", "--executor", "local"], "`lots` is not a number of tokens"),
        (["build-stage", "3", "--input", "nothing.jsonl", "--executor", "local"], "no file to read at"),
        (["build-stage", "3", "--field", "text"], "write it as text=COLUMN"),
        (["build-stage", "3", "--field", "txt=a"], "there is no `txt` to map"),
        (["build-stage", "3", "--nonsense"], "No such option"),
        (["build-stage", "3", "--root", "s4://bucket/x"], "cannot use the root `s4://bucket/x`: Protocol not known"),
        (["stats", "3", "--root", "s4://bucket/x"], "cannot use the root `s4://bucket/x`"),
        (["build-stage", "3", "--root", ""], "the root has no name"),
        (["build-stage", "3", "--root", "s3://bucket/[new]"], "the root `s3://bucket/[new]` holds `[`"),
        (["build-stage", "0"], "Invalid value for 'stage'"),
        (["build-stage"], "Missing argument"),
        (["nonsense"], "No such command"),
        (["stats", "3"], "has not been built"),
        (["why", "x"], "has not been built"),
        (["failures", "3"], "has not been built"),
        (["plan", "none.yaml"], "no recipe at `none.yaml`"),
        (["validate", "none.yaml"], "no recipe at `none.yaml`"),
    ],
)
def test_a_users_mistake_ends_in_one_message_and_exit_2(words: list[str], says: str, tmp_path: Path):
    done = marco(*words, cwd=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert "Traceback" not in done.err
    assert [p.name for p in tmp_path.iterdir() if p.name != "marco-out"] == []


def test_without_a_command_the_help_is_shown(tmp_path: Path):
    done = marco(cwd=tmp_path)
    assert done.code == 2
    assert done.err.startswith("Usage:")
    assert all(name.partition(" ")[0] in done.err for name in SURFACE)  # a group shows its own commands


def test_broken_rows_within_the_limits_are_a_warning_and_above_them_an_error(site: Path):
    told = (site / "built.err").read_text()
    assert "warning: 3 of 22 rows could not be judged" in told
    assert "read/missing_field 1" in told
    values = planted_values(site / "in") | {"budget": 3000, "limits": {"failed_rows": 0.01}}
    write_recipe(site / "strict.yaml", values)
    done = marco("build-stage", 3, "--recipe", site / "strict.yaml", "--root", site / "out", "--executor", "local")
    assert done.code == 1
    assert "error: 3 of 22 rows could not be judged" in done.err
    listed = next(line for line in done.err.splitlines() if "they are listed by:" in line)
    again = marco(*shlex.split(listed.partition("marco-data ")[2]), "--json")
    assert {r["failed"] for r in again.lines} == {"read/missing_field", "drop_marked/crashed", "drop_low_tier/crashed"}


def test_a_failed_shard_is_named_with_the_command_that_repeats_it(site: Path, tmp_path: Path):
    shutil.copytree(site / "in", tmp_path / "in")
    values = planted_values(tmp_path / "in")
    write_recipe(tmp_path / "r with space.yaml", values)
    command = ("--recipe", tmp_path / "r with space.yaml", "--root", tmp_path / "the out", "--executor", "local")
    marco("build-stage", 3, *command)
    broken = sorted(tmp_path.glob("the out/measure-*/web-a-jsonl*.parquet"))[0]
    whole = broken.read_bytes()
    # Whole, so that it is not made again, and not what a shard holds.
    pq.write_table(pq.read_table(broken, columns=["id"]), broken)
    shutil.rmtree(next(tmp_path.glob("the out/decide-*")))
    done = marco("build-stage", 3, *command, "--json")
    assert (done.code, done.json["complete"], done.json["balanced"]) == (1, False, False)
    assert len(done.json["failed_shards"]) == 1
    stats = marco("stats", 3, "--family", "small", "--root", tmp_path / "the out", "--json")
    assert (stats.code, stats.json["balanced"]) == (1, False)
    again = re.search(r"again: marco-data (.*)", done.err).group(1)
    assert marco(*shlex.split(again)).code == 1
    broken.write_bytes(whole)
    repeated = marco(*shlex.split(again))
    assert (repeated.code, repeated.out) == (0, "")
    assert marco("build-stage", 3, *command).code == 0


# stats


def test_stats_json_has_the_promised_keys_and_its_equation_holds(site: Path):
    done = ask(site, "stats", 3, "--json")
    assert done.code == 0
    stats = done.json
    assert {"balanced", "documents", "languages", "parts", "shards"} <= stats.keys()
    documents = stats["documents"]
    assert documents.keys() == {"read", "generated", "kept", "replaced", "dropped", "failed"}
    gone = documents["kept"] + documents["replaced"] + sum(documents["dropped"].values())
    assert documents["read"] + documents["generated"] == gone + sum(documents["failed"].values())
    assert stats["balanced"] is True
    assert documents["dropped"]["mix/not_selected"] > 0
    assert documents["failed"] == {"drop_low_tier/crashed": 1, "drop_marked/crashed": 1, "read/missing_field": 1}
    assert all(entry.keys() == {"documents", "tokens", "bytes"} for entry in stats["languages"].values())
    assert sum(entry["documents"] for entry in stats["languages"].values()) == documents["kept"]
    assert stats["parts"].keys() == {"web", "books"}
    assert all(part.keys() == {"documents", "tokens", "languages"} for part in stats["parts"].values())


def test_tokens_of_stats_are_those_in_the_shards(site: Path):
    stats = ask(site, "stats", 3, "--json").json
    assert all(prefix.startswith(f"{site / 'out'}/") for prefix in stats["shards"])
    tokens = sum(Path(f"{prefix}.bin").stat().st_size // 2 for prefix in stats["shards"])
    assert tokens == sum(entry["tokens"] for entry in stats["languages"].values())
    assert tokens == sum(part["tokens"] for part in stats["parts"].values())
    assert tokens == sum(n for part in stats["parts"].values() for n in part["languages"].values())


def test_stats_for_people_show_every_reason(site: Path):
    done = ask(site, "stats", 3)
    assert done.code == 0
    for reason in ask(site, "stats", 3, "--json").json["documents"]["dropped"]:
        assert reason in done.out


def test_the_first_build_ends_with_a_table_the_shards_and_what_to_do_next(site: Path):
    told = (site / "built.txt").read_text()
    for words in ("eng_Latn English", "tokens", "blend.json", "Next:", "marco-data stats 3", "marco-data why"):
        assert words in told


# blend.json


def blend_of(root: Path) -> tuple[Path, dict[str, Any]]:
    pointer = json.loads((root / "stages" / "small-3.json").read_text())
    folder = root / pointer["stage"]
    return folder, json.loads((folder / "blend.json").read_text())


def test_paths_in_a_blend_are_relative_to_it_so_that_a_root_can_move(site: Path, tmp_path: Path):
    moved = Path(shutil.copytree(site / "out", tmp_path / "moved"))
    folder, blend = blend_of(moved)
    assert blend["entries"]
    prefixes = [entry["prefix"] for entry in blend["entries"]]
    assert (folder / "blend.txt").read_text().split()[1::2] == prefixes
    for entry in blend["entries"]:
        assert not Path(entry["prefix"]).is_absolute()
        tokens = np.fromfile(folder / f"{entry['prefix']}.bin", dtype=np.uint16)
        assert len(tokens) == entry["tokens"]
    assert str(site) not in json.dumps(blend)
    stats = marco("stats", 3, "--family", "small", "--root", moved, "--json").json
    assert all(Path(f"{prefix}.bin").is_file() for prefix in stats["shards"])
    assert all(prefix.startswith(str(moved)) for prefix in stats["shards"])


# A second run


def committed(root: Path) -> dict[str, tuple[int, int]]:
    """(inode, modification time) of everything that is a result."""
    return {
        str(path.relative_to(root)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in root.rglob("*")
        if path.is_file() and path.relative_to(root).parts[0] not in ("runs", "stages") and "stage-" not in str(path)
    }


def test_a_second_run_does_nothing_and_says_the_same(site: Path):
    command = ("build-stage", 3, "--recipe", site / "r.yaml", "--root", site / "out", "--executor", "local", "--json")
    first, before = marco(*command), committed(site / "out")
    second = marco(*command)
    assert (second.code, second.json) == (0, first.json)
    assert committed(site / "out") == before
    told = marco("plan", site / "r.yaml", "--root", site / "out", "--json").json
    assert {node["status"] for node in told["nodes"]} == {"skip"}


# plan, validate, languages


def test_plan_takes_a_stage_or_a_recipe_and_writes_nothing(site: Path, tmp_path: Path):
    done = marco("plan", site / "r.yaml", "--root", tmp_path / "none")
    assert done.code == 0
    assert "measure" in done.out
    assert "rebuild" in done.out
    assert marco("plan", 3, "--root", tmp_path / "none", "--json").json["stage"] == "sample stage 3"
    assert list(tmp_path.iterdir()) == []


def test_plan_names_the_key_that_changed(site: Path):
    done = marco("plan", site / "r.yaml", "--root", site / "out", "--budget", "2000")
    assert done.code == 0
    assert re.search(r"mix +rebuild", done.out)
    assert "budget: 3000 -> 2000" in done.out


def test_validate_says_what_a_recipe_is_or_where_it_is_wrong(site: Path, tmp_path: Path):
    assert "small stage 3, 7 languages, 2 parts" in marco("validate", site / "r.yaml").out
    values = recipe_values(site / "in")
    wrong = write_recipe(tmp_path / "w.yaml", values | {"bugdet": 1})
    done = marco("validate", wrong)
    assert done.code == 2
    assert re.search(rf"{re.escape(str(wrong))}:\d+: unknown key `bugdet`; did you mean `budget`", done.err)
    missing = write_recipe(tmp_path / "t.yaml", values | {"tokenizer": {"path": str(tmp_path / "none.json")}})
    done = marco("validate", missing)
    assert (done.code, done.out) == (2, "")
    assert "there is no tokenizer at" in done.err


def test_languages_lists_all_of_them():
    done = marco("languages")
    assert [line.split()[0] for line in done.out.splitlines()] == list(LANGUAGES)
    assert [language["code"] for language in marco("languages", "--json").json] == list(LANGUAGES)


# why, find, failures


def test_why_finds_a_document_by_any_of_its_names(site: Path):
    (by_source_id,) = ask(site, "why", "rus-0", "--json").lines
    assert by_source_id.keys() >= WHY_KEYS
    assert by_source_id["url"] == "https://example.org/rus-0"
    (by_id,) = ask(site, "why", by_source_id["id"], "--json").lines
    (by_url,) = ask(site, "why", "https://example.org/rus-0", "--json").lines
    assert by_source_id == by_id == by_url


def test_why_gives_every_planted_document_its_verdict(site: Path):
    wanted = [name for name in PLANTED if name not in ("twice", "two-texts")]
    answers = {a["source_id"]: a for a in ask(site, "why", *wanted, "--json").lines}
    assert answers.keys() == set(wanted)
    for name in wanted:
        reason = PLANTED[name][1]
        if reason is None:
            assert answers[name]["reason"] in (None, "mix/not_selected", "dedup/exact", "dedup/near")
        else:
            failed = reason in ("read/missing_field", "drop_marked/crashed", "drop_low_tier/crashed")
            assert (answers[name]["verdict"], answers[name]["reason"]) == ("failed" if failed else "dropped", reason)
    assert answers["short"]["measured"] < 50


def test_why_names_the_twin_of_a_duplicate_as_its_source_calls_it(site: Path):
    trio = ask(site, "why", "good", "copy-of-good", "near-good", "--json").lines
    gone = [a for a in trio if a["reason"] in ("dedup/exact", "dedup/near")]
    (kept,) = [a for a in trio if a not in gone]
    assert len(gone) == 2
    assert {a["duplicate_of"] for a in gone} == {kept["source_id"]}
    assert all(a["measured"] >= 0.8 for a in gone)
    (again,) = [a for a in ask(site, "why", "twice", "--json").lines if a["reason"] == "dedup/same_id"]
    assert again["duplicate_of"] == "twice"


def test_why_reads_names_from_standard_input_and_says_what_it_did_not_find(site: Path):
    done = ask(site, "why", "-", "short", "--json", stdin="rus-0\nnobody\n\nrus-1\n")
    assert sorted(a["source_id"] for a in done.lines) == ["rus-0", "rus-1", "short"]
    assert done.code == 1
    assert "not found in this stage: nobody" in done.err


def test_why_tells_which_document_a_token_of_a_shard_comes_from(site: Path):
    stats = ask(site, "stats", 3, "--json").json
    for prefix in stats["shards"]:
        last = Path(f"{prefix}.bin").stat().st_size // 2 - 1
        for token in {0, last}:
            (answer,) = ask(site, "why", f"{prefix}:{token}", "--json").lines
            assert (answer["verdict"], answer["language"]) == ("kept", prefix.split("/")[-2])
    (here,) = ask(site, "why", f"out/{Path(prefix).relative_to(site / 'out')}:{last}", "--json", cwd=site).lines
    assert here == answer
    (there,) = ask(site, "why", f"../{Path(prefix).relative_to(site / 'out')}:{last}", "--json").lines
    assert there == answer  # as `blend.json`, and so the trainer, names it
    done = ask(site, "why", f"{prefix}:{last + 1}")
    assert done.code == 2
    assert f"has {last + 1} tokens" in done.err


def test_a_token_is_traced_where_text_was_measured_again_to_the_same_bytes(site: Path, tmp_path: Path):
    """Another floor makes another measure folder with the same shards in it; what follows is not made again."""
    root = Path(shutil.copytree(site / "out", tmp_path / "out"))
    values = planted_values(site / "in") | {"budget": 3000}
    values["steps"]["identify_language"]["floor"] = 0.1
    write_recipe(tmp_path / "r.yaml", values)
    built = marco("build-stage", 3, "--recipe", tmp_path / "r.yaml", "--root", root, "--executor", "local", "--json")
    answers = marco("why", f"{built.json['shards'][0]}:0", "--family", "small", "--root", root, "--json")
    assert answers.code == 0, answers.err
    assert answers.lines[0]["verdict"] == "kept"


def test_find_shows_kept_text_only(site: Path):
    assert ask(site, "find", "nowhere in the corpus").code == 1
    words = prose("rus_Cyrl")[0][40:70]
    (why,) = ask(site, "why", "rus-0", "--json").lines
    found = ask(site, "find", words, "--json")
    assert (found.code == 0) == (why["verdict"] == "kept")
    marked = ask(site, "find", "MARKED-BY-THE-TEST")
    assert (marked.code, marked.out) == (1, "")


def test_failures_lists_broken_rows_with_reason_place_and_first_bytes(site: Path):
    rows = {r["failed"]: r for r in ask(site, "failures", 3, "--json").lines}
    assert rows.keys() == {"read/missing_field", "drop_marked/crashed", "drop_low_tier/crashed"}
    missing = rows["read/missing_field"]
    assert (missing["source_id"], missing["files"]) == ("no-text", ["web/a.jsonl"])
    assert missing["first_bytes"].startswith('{"id": "no-text"')
    crashed = rows["drop_marked/crashed"]
    assert crashed["first_bytes"][:40] == PLANTED["raises"][0]["text"][:40]
    told = ask(site, "failures", 3)
    assert told.code == 0
    assert "read/missing_field  web/a.jsonl at " in told.out


def test_what_a_broken_row_says_cannot_move_a_terminal(tmp_path: Path):
    (tmp_path / "x.jsonl").write_bytes(b'\x1b]0;owned\x07\x1b[2J{"text": \xff\xfe\n' + b'{"text": "fine"}\n')
    marco("build-stage", 3, "--input", tmp_path / "x.jsonl", "--root", tmp_path / "o", "--executor", "local")
    done = marco("failures", 3, "--root", tmp_path / "o")
    assert "read/invalid_utf8" in done.out
    assert "\\x1b[2J" in done.out
    assert done.out.isprintable() or set(done.out) - {c for c in done.out if c.isprintable()} == {"\n"}


def test_a_recipe_of_another_stage_is_refused(site: Path):
    done = marco("build-stage", 2, "--recipe", site / "r.yaml", "--root", site / "out", "--executor", "local")
    assert done.code == 2
    assert "is a recipe of stage 3, not of stage 2" in done.err
