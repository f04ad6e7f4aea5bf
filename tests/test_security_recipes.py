"""Files that people write or are given: no tag builds an object, no alias explodes, no name leaves the root."""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import marco
from small_corpus import as_recipe, recipe_values, write_recipe

from marco_data.cluster.orders import kept
from marco_data.errors import RecipeError
from marco_data.generation.entry import Model
from marco_data.generation.pools import load_pools
from marco_data.generation.prompt import load_prompt
from marco_data.nodes import generate
from marco_data.prices import load_prices
from marco_data.recipe import load_recipe
from marco_data.storage import Storage
from marco_data.yaml_lines import read_yaml

READERS: dict[str, Callable[[Path], Any]] = {
    "recipe": load_recipe,
    "pools": load_pools,
    "prices": load_prices,
    "prompt": lambda path: load_prompt(str(path)),
    "training recipe": lambda path: read_yaml(path, a="training recipe"),
}
PROJECT = Path(__file__).parents[1]


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir", "!!python/name:os.system", "!mine"])
@pytest.mark.parametrize("reader", READERS)
def test_a_tag_is_refused_with_its_line_and_nothing_is_called(tmp_path: Path, reader: str, tag: str):
    file, made = tmp_path / "file.yaml", tmp_path / "made"
    file.write_text(f"family: x\nstage: {tag} ['{made}']\n", "utf-8")
    with pytest.raises(RecipeError, match=r"file\.yaml:2: not valid YAML"):
        READERS[reader](file)
    assert not made.exists()


def test_aliases_that_stand_for_a_milliard_items_are_refused_at_once(tmp_path: Path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    (tmp_path / "bomb.yaml").write_text("\n".join(lines), "utf-8")
    with pytest.raises(RecipeError, match="aliases counted"):
        load_recipe(tmp_path / "bomb.yaml")


@pytest.mark.parametrize("text", ["a: " + "[" * 5_000 + "]" * 5_000, "a: &a [*a]", "a: &a {b: *a}"])
def test_what_is_nested_without_end_is_refused(tmp_path: Path, text: str):
    (tmp_path / "deep.yaml").write_text(text, "utf-8")
    with pytest.raises(RecipeError, match=r"deep\.yaml"):
        load_recipe(tmp_path / "deep.yaml")


def test_the_project_loads_no_pickle_and_no_yaml_but_by_its_one_reader():
    """`child.py` unpickles what its own forked child has sent through a pipe, `ray_executor.py` what the driver's own
    tasks answer, which Ray itself would unpickle were it not squeezed."""
    risky = {
        ("pickle", "load"),
        ("pickle", "loads"),
        ("yaml", "load"),
        ("yaml", "load_all"),
        ("yaml", "unsafe_load"),
        ("yaml", "full_load"),
        ("yaml", "safe_load"),
        ("torch", "load"),
        ("np", "load"),
        ("numpy", "load"),
        ("joblib", "load"),
        ("marshal", "loads"),
        ("shelve", "open"),
    }
    found = set()
    for folder in ("marco_data", "pipelines"):
        for path in (PROJECT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
                    if (owner, node.func.attr) in risky:
                        found.add((path.relative_to(PROJECT).as_posix(), f"{owner}.{node.func.attr}"))
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec"):
                    found.add((path.relative_to(PROJECT).as_posix(), node.func.id))
                if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                    found.add((path.relative_to(PROJECT).as_posix(), "allow_pickle"))
    assert found == {("marco_data/child.py", "pickle.loads"), ("marco_data/ray_executor.py", "pickle.loads")}


LEAVES = ("../up", "/etc", "a/b", "..", ".", "a\nb", "a\0b", "A b")


@pytest.mark.parametrize("name", LEAVES)
@pytest.mark.parametrize("where", ["family", "source", "part", "generator", "entry", "after"])
def test_a_name_that_would_leave_the_root_is_refused(tmp_path: Path, where: str, name: str):
    values = recipe_values(tmp_path)
    if where in ("family", "after"):
        values[where] = name
    elif where == "source":
        values["sources"][name] = values["sources"]["web"]
    elif where == "part":
        values["mixture"][name] = {"weight": 1, "sources": ["web"]}
    elif where == "generator":
        values["generators"] = {name: {"model": "m", "revision": "1"}}
    else:
        values["generate"] = {name: {"maker": "rephrase", "generator": "m", "languages": ["eng_Latn"]}}
    file = write_recipe(tmp_path / "recipe.yaml", values)
    with pytest.raises(RecipeError, match=r"recipe\.yaml"):
        load_recipe(file)


def test_a_manifest_holds_no_secret_of_a_url(tmp_path: Path):
    values = recipe_values(tmp_path)
    values["sources"]["web"]["paths"] = [
        "https://me:hush@lake.example/a-{language}.jsonl?sig=hush&x=hush",
        "s3://key:hush@lake/web/part-?.jsonl",
    ]
    recorded = as_recipe(values).recorded
    assert "hush" not in yaml.safe_dump(recorded)
    assert recorded["sources"]["web"]["paths"] == [
        "https://lake.example/a-{language}.jsonl",
        "s3://lake/web/part-?.jsonl",
    ]


@pytest.mark.parametrize("revision", ["main", "v1.0", "0d7cf23", "0" * 39, "0" * 39 + "G"])
def test_weights_of_a_hub_need_a_commit(revision: str, tmp_path: Path):
    model = Model(model="somebody/model", revision=revision)
    with pytest.raises(RecipeError, match="is no commit"):
        generate._require_pinned("small", model)
    generate._require_pinned("small", model.model_copy(update={"revision": "0d7cf23991f47feeb3a57ecb4c9cee8ea4a17bfe"}))
    generate._require_pinned("small", model.model_copy(update={"model": str(tmp_path)}))


@pytest.mark.parametrize("command", ["stats", "ledger", "removed", "failures", "prompts", "build-stage"])
@pytest.mark.parametrize("family", ["../../evil", "/etc/evil", "a/b", ".."])
def test_a_family_of_the_command_line_names_no_file_outside_of_the_root(tmp_path: Path, command: str, family: str):
    (tmp_path / "out" / "stages").mkdir(parents=True)
    (tmp_path / "evil-3.json").write_text('{"stage": "../elsewhere"}')
    done = marco(command, 3, "--family", family, "--root", tmp_path / "out")
    assert done.code == 2
    assert f"no recipe family `{family}`" in done.err


def test_a_path_on_a_hub_without_a_commit_is_told(tmp_path: Path):
    values = recipe_values(tmp_path)
    pinned = f"hf://datasets/org/name@{'0d7cf2399a' * 4}/data/*.parquet"
    values["sources"]["web"]["paths"] = [pinned, "hf://datasets/org/name/a.parquet", "hf://datasets/org/name@main/b"]
    values["tokenizer"]["path"] = "hf://org/model/tokenizer.json"
    moving = ["hf://datasets/org/name/a.parquet", "hf://datasets/org/name@main/b", "hf://org/model/tokenizer.json"]
    assert as_recipe(values).unpinned == moving


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "a/../b", "..", ""])
def test_a_job_is_looked_for_among_jobs_only(tmp_path: Path, name: str):
    with pytest.raises(RecipeError, match="not the name of a job"):
        kept(Storage(str(tmp_path)), name)
