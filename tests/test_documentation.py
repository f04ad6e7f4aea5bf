"""What the README says is true: its commands run as they stand, its files work, its keys and options exist."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
from told import ROOT, fences, make_folder, shell, write_file
from typer.testing import CliRunner

from marco_data.cli import app

README = (ROOT / "README.md").read_text("utf-8")

NOT_RUN_HERE = {
    "python3 start.py test": "is the command that runs these tests; .ci/run starts it from a clean clone",
    "source .venv/bin/activate": "is this environment, or would be; .ci/run goes the way of start.py",
    "python -m pytest -q tests/test_step_contract.py": "is a part of this very run",
    "ruff check .": "is a step of .ci/run",
    "python -m benchmarks": "takes minutes; tests/test_benchmarks.py runs small ones",
}
"""Commands of the README that are not executed, and why. All others are, in their order, in one folder."""

COMMANDS = {command.name or command.callback.__name__: command for command in app.registered_commands}
COMMANDS |= {f"{g.name} {c.name}": c for g in app.registered_groups for c in g.typer_instance.registered_commands}


def command_lines() -> list[str]:
    lines = [line for block in fences(README, "sh") for line in block.splitlines()]
    return [stripped for line in lines if (stripped := re.sub(r"\s+#.*", "", line).strip())]


def prose(language: str) -> list[str]:
    """Documents of the sample, without the lines that name them."""
    text = (ROOT / "recipes" / "sample" / "text" / f"{language}.txt").read_text("utf-8")
    return [part.partition("\n")[2].strip() for part in re.split(r"^== ", text, flags=re.MULTILINE)[1:]]


@pytest.fixture(scope="module")
def users_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the README talks of, and commands of its names on the path."""
    folder = tmp_path_factory.mktemp("user")
    rows = [
        {"id": f"{language}-{i}", "content": text}
        for language in ("eng_Latn", "swh_Latn", "deu_Latn")
        for i, text in enumerate(prose(language))
    ]
    (folder / "my.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    quiz = {"id": 1, "question": "Which river runs through the old town of Heidelberg, and where does it end?"}
    (folder / "quiz.jsonl").write_text(json.dumps({**quiz, "answer": "The Neckar; in the Rhine."}) + "\n", "utf-8")
    make_folder(folder)
    for block in fences(README, "yaml", "python"):
        write_file(folder, block)
    return folder


@pytest.fixture(scope="module")
def answers(users_folder: Path) -> dict[str, subprocess.CompletedProcess[str]]:
    """What each command of the README said, run in their order."""
    said = {}
    exports = ""
    for line in command_lines():
        if line.startswith("export "):
            exports += line + "\n"
        elif line not in NOT_RUN_HERE:
            said[line] = shell(users_folder, exports + line)
    return said


@pytest.mark.slow
def test_every_command_of_the_readme_runs(answers):
    failed = {line: f"exit {a.returncode}: {a.stderr[-2000:]}" for line, a in answers.items() if a.returncode}
    assert failed == {}
    assert len(answers) > 10


@pytest.mark.slow
def test_the_commands_that_need_torch_run_too(users_folder):
    pytest.importorskip("torch")
    (block,) = fences(README, "console")
    assert block.count("\n") == 2
    built = shell(users_folder, "marco-data build-stage 3")
    assert built.returncode == 0, built.stderr[-2000:]
    said = shell(users_folder, block)
    assert said.returncode == 0, said.stderr[-2000:]
    trained, *documents = said.stdout.splitlines()
    assert "iteration 20, stopped; the same command goes on" in trained
    assert len(documents) >= 8, "a batch is eight sequences, of a document or more each"
    assert (users_folder / "marco-out" / "training" / "sample-3").is_dir()


def test_what_is_not_run_is_in_the_readme():
    assert [line for line in NOT_RUN_HERE if line not in command_lines()] == []


def test_the_first_screen_has_the_three_commands():
    assert [line.split(" --input")[0] for line in fences(README, "sh")[0].splitlines()][
        2
    ] == "python3 start.py build-stage 3"
    assert len(fences(README, "sh")[0].splitlines()) == 3
    assert README.index("```sh") < 800


@pytest.mark.slow
def test_a_second_build_finds_nothing_to_do(answers):
    steps = re.findall(r"^(\w+): \d+ tasks, (.*)$", answers["marco-data build-stage 3"].stderr, re.MULTILINE)
    assert {left for _, left in steps} == {"nothing to do"}


@pytest.mark.slow
def test_keys_of_stats_are_the_documented_ones(answers):
    told: dict[str, Any] = json.loads(answers["marco-data stats 3 --json"].stdout)
    table = README[README.index("| key | holds |") :].partition("\n\n")[0]
    documented = {key for row in table.splitlines()[2:] for key in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert documented == set(told)
    named = set(re.findall(r"`(\w+)`", table))
    assert set(told["documents"]) <= named
    assert {key for entry in told["languages"].values() for key in entry} <= named
    assert {key for entry in told["parts"].values() for key in entry} <= named
    assert all(prefix.startswith("./marco-out/") for prefix in told["shards"])


@pytest.mark.slow
def test_the_books_of_the_sample_balance(answers):
    documents = json.loads(answers["marco-data stats 3 --json"].stdout)["documents"]
    out = documents["kept"] + documents["replaced"]
    out += sum(documents["dropped"].values()) + sum(documents["failed"].values())
    assert documents["read"] + documents["generated"] == out


@pytest.mark.slow
def test_folders_of_the_readme_are_those_of_a_build(answers, users_folder):
    tree = README[README.index("marco-out/\n") :].partition("```")[0]
    named = set(re.findall(r"(?:^  |(?<=  ))([a-z_]+)(?=[-/])", tree, re.MULTILINE))
    made = {path.name.partition("-")[0] for path in (users_folder / "marco-out").iterdir()}
    assert made | {"training"} == named, "the training folder is there where the test above had torch"


@pytest.mark.slow
def test_the_readmes_own_step_and_recipe_are_accepted(answers):
    assert "2 languages, 1 parts" in answers["marco-data validate my-recipe.yaml"].stdout
    assert answers["marco-data build-stage 1 --recipe my-recipe.yaml --root my-out"].returncode == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_explains_itself_and_is_in_the_readme(name):
    answer = CliRunner().invoke(app, [*name.split(), "--help"])
    assert answer.exit_code == 0
    assert COMMANDS[name].callback.__doc__
    assert re.search(rf"^\| `{name}\b", README, re.MULTILINE)


def test_options_of_the_readme_exist():
    table = README[README.index("| option | means") :].partition("\n\n")[0]
    documented = {option for row in table.splitlines()[2:] for option in re.findall(r"--[a-z-]+", row.split("|")[1])}
    known = {opt for p in typer.main.get_command(app).commands["build-stage"].params for opt in p.opts}
    assert documented <= known


def test_files_that_the_readme_and_the_decisions_name_exist():
    text = README + (ROOT / "docs" / "decisions.md").read_text("utf-8")
    named = set(re.findall(r"`((?:docs|marco_data|pipelines|tests|\.ci)/[\w./-]+)`", text))
    assert sorted(path for path in named if not (ROOT / path).exists()) == []
