"""No file under infra/ that nothing checks, and no command of its pages that is not one."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from marco_data.cli import app
from marco_data.generation.pools import load_pools
from marco_data.prices import load_prices

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
NAMES = sorted(p.relative_to(INFRA).as_posix() for p in INFRA.rglob("*") if p.is_file() and p.name != "README.md")


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_on_the_page_and_in_a_test(name):
    assert f"`{name}`" in (INFRA / "README.md").read_text("utf-8")
    tests = [p for folder in ("infra", "train") for p in (ROOT / "tests" / folder).glob("*.py") if p != Path(__file__)]
    named = [p.name for p in [*tests, Path(__file__)] if Path(name).name in p.read_text("utf-8")]
    assert named


def test_the_page_names_no_file_that_is_not_there():
    named = re.findall(r"`([\w/-]+\.(?:yaml|slurm|json))`", (INFRA / "README.md").read_text("utf-8"))
    assert set(named) <= set(NAMES)


def test_the_pools_of_the_example_are_pools():
    kinds = {name: pool.kind for name, pool in load_pools(INFRA / "pools.yaml").items()}
    assert set(kinds.values()) == {"vllm", "endpoint", "scripted"}


def test_the_prices_of_the_example_are_prices():
    given = yaml.safe_load((INFRA / "prices.yaml").read_text("utf-8"))
    assert load_prices(INFRA / "prices.yaml").model_dump(include=set(given)) == given


def commands() -> list[list[str]]:
    """The words of each command of the page's part on Kubernetes and Slurm, and of that on metrics."""
    text = (ROOT / "docs" / "service.md").read_text("utf-8").partition("## Kubernetes and Slurm")[2]
    lines = [line for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    return [shlex.split(part) for line in lines for part in re.split(r" (?:&&|\|) ", line)]


def test_commands_of_the_page_name_files_secrets_and_services_that_the_manifests_have():
    cluster = yaml.safe_load((INFRA / "raycluster.yaml").read_text("utf-8"))
    said = [word for words in commands() for word in words]
    files = [word for word in said if word.startswith("infra/")]
    files += [word.partition("=")[2] for word in said if word.startswith("--from-file=infra/")]
    assert {*files} >= {
        "infra/Dockerfile",
        "infra/raycluster.yaml",
        "infra/build.slurm",
        "infra/metrics/dashboard.json",
    }
    assert all((ROOT / file).exists() for file in files)
    secrets = {words[words.index("generic") + 1] for words in commands() if "generic" in words}
    assert secrets == {"marco-data", cluster["spec"]["authOptions"]["secretName"]}
    assert f"service/{cluster['metadata']['name']}-head-svc" in said


def test_commands_of_the_page_are_commands_with_these_options():
    ours = typer.main.get_command(app)
    (sent,) = [words[words.index("marco-data") + 1 :] for words in commands() if "marco-data" in words[:3]]
    parsed: dict[str, Any] = ours.commands["submit"].make_context("submit", sent[1:]).params  # type: ignore[attr-defined]
    assert (sent[0], parsed["follow"], parsed["env"]) == ("submit", True, ["AWS_SECRET_ACCESS_KEY"])
    (batch,) = [words for words in commands() if words[0] == "sbatch"]
    words = batch[batch.index("infra/build.slurm") + 1 :]
    assert ours.commands["build-stage"].make_context("build-stage", words).params["stage"] == 3  # type: ignore[attr-defined]
