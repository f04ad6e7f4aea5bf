"""The rules of the house that a machine can check: who imports what, names, sizes, and what no file may mention."""

import ast
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = sorted((ROOT / "marco_data").rglob("*.py"))
CODE = LIBRARY + sorted((ROOT / "pipelines").rglob("*.py")) + sorted((ROOT / "recipes").rglob("*.py"))

ROOMS = {
    "ray": [
        "marco_data/ray_executor.py",
        "marco_data/cluster/jobs.py",
        "marco_data/cluster/last_words.py",
        "marco_data/cluster/metrics.py",
        "marco_data/cluster/node_checks.py",
        "marco_data/generation/ray_pool.py",
        "marco_data/train/ray_launch.py",
    ],
    "numba": ["marco_data/kernels/"],
    "typer": ["marco_data/cli", "marco_data/options.py"],
    "rich": ["marco_data/cli", "marco_data/progress.py", "marco_data/report", "marco_data/side_by_side.py"],
    "fasttext": ["marco_data/languages/"],
    "trafilatura": ["marco_data/sources/"],
    "lxml": ["marco_data/sources/"],
    "fastwarc": ["marco_data/sources/"],
    "ftfy": ["marco_data/steps/normalize.py"],
    "icu4py": [
        "marco_data/words.py",
        "marco_data/word_classes.py",
        "marco_data/steps/datatrove_filter.py",
        "marco_data/kernels/icu.py",
    ],
    "datatrove": ["marco_data/steps/datatrove_filter.py"],
    "vllm": ["marco_data/generation/vllm_engine.py"],
    "tokenizers": ["marco_data/tokenizer.py"],
    "fastokens": ["marco_data/fast_encoder.py"],
    "aiohttp": ["marco_data/generation/endpoint.py"],
    # Whoever opens a file elsewhere does it through these: one kind of retry, one kind of error.
    "fsspec": ["marco_data/filesystems.py", "marco_data/s3.py"],
    "s3fs": ["marco_data/s3.py"],
    "botocore": ["marco_data/s3.py"],
    "boto3": [],
    # Heavy ones, each with a room of its own once it is built; until then nobody's.
    "torch": ["marco_data/train/"],
    "safetensors": ["marco_data/train/"],
    "transformers": [],
    "starlette": ["marco_data/dashboard/"],
    "uvicorn": ["marco_data/dashboard/"],
    "jinja2": ["marco_data/dashboard/"],
    "markupsafe": ["marco_data/dashboard/"],
    "vl_convert": ["marco_data/dashboard/"],
    # A recipe names its pipeline, and importlib brings it: the library does not know it.
    "pipelines": [],
    "recipes": [],
    "tests": [],
}
"""Package: the files and folders that may import it. What is not named here may be imported anywhere."""

ONLY_IN_TESTS = ("pytest", "hypothesis", "moto", "datasketch", "warcio", "nltk", "playwright")

MACHINE_PATHS = re.compile(r"(?<![\w.~:/-])/(?:work|root|home|opt|mnt|Users)/[\w.]")
SHARED = re.compile(r"\.\./" + r"shared(?:/(?:data|facts|design)|[\s\"'`]|$)|\." + r"library\b")
REGISTRY_HOSTS = re.compile(
    r"py" + r"pi\.org|python" + r"hosted|npm" + r"js|deb\.deb" + r"ian|index-" + r"url\s*=?\s*http", re.IGNORECASE
)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def imports(path: Path) -> frozenset[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return frozenset(found)


@cache
def project_files() -> list[Path]:
    """What git tracks, or would: build outputs and caches are nobody's text."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout, so what belongs to the project is not known")
    return [path for line in listed.stdout.decode().split("\0") if line and (path := ROOT / line).is_file()]


def text_of(path: Path) -> str | None:
    data = path.read_bytes()
    return None if b"\0" in data[:4096] else data.decode("utf-8", "replace")


@pytest.mark.parametrize("package", ROOMS)
def test_a_package_is_imported_only_in_its_room(package):
    importers = [name(path) for path in CODE if package in imports(path)]
    assert [at for at in importers if not at.startswith(tuple(ROOMS[package]))] == []


def test_what_only_tests_need_is_imported_only_there():
    assert [(name(p), used) for p in CODE for used in imports(p) if used in ONLY_IN_TESTS] == []


def test_pipelines_use_public_names_of_the_library_only():
    private = [
        (name(path), alias.name)
        for path in sorted((ROOT / "pipelines").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name.startswith("_")
    ]
    assert private == []


def test_the_core_is_light():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    heavy = ("torch", "vllm", "transformers", "streamlit", "playwright", "selenium", "datatrove", "polars")
    core = [re.split(r"[^\w-]", requirement)[0] for requirement in project["dependencies"]]
    assert [package for package in core if package in heavy] == []


def test_every_dependency_of_the_core_is_imported_by_the_library():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module = {"pyyaml": "yaml", "fasttext-numpy2-wheel": "fasttext"}
    # Used by what is imported: fsspec opens s3:// through s3fs; trafilatura needs lxml's cleaner and lets
    # charset-normalizer guess an encoding.
    indirect = {"s3fs", "lxml_html_clean", "charset-normalizer"}
    core = {re.split(r"[^\w-]", requirement)[0] for requirement in project["dependencies"]} - indirect
    used = {package for path in CODE for package in imports(path)}
    assert sorted(package for package in core if module.get(package, package) not in used) == []


def test_no_file_of_the_library_is_longer_than_500_lines():
    lengths = {name(path): len(path.read_text("utf-8").splitlines()) for path in CODE}
    assert {at: lines for at, lines in lengths.items() if lines > 500} == {}


def test_no_module_is_named_after_nothing():
    empty_words = {"utils", "util", "common", "helpers", "helper", "base", "core", "misc", "lib"}
    assert [name(path) for path in CODE if empty_words & {path.stem, path.parent.name}] == []


def test_every_module_says_what_it_is():
    silent = [name(p) for p in CODE if p.stat().st_size and not ast.get_docstring(ast.parse(p.read_text("utf-8")))]
    assert silent == []


@pytest.mark.parametrize(
    ("pattern", "allowed"),
    [
        pytest.param(MACHINE_PATHS, [], id="a path of one machine"),
        pytest.param(SHARED, [".ci/run"], id="a folder beside the checkout"),
        pytest.param(REGISTRY_HOSTS, [], id="a registry's host"),
    ],
)
def test_no_file_mentions(pattern, allowed):
    found = [
        f"{name(path)}: {match.group()}"
        for path in project_files()
        if name(path) not in allowed and (text := text_of(path)) is not None
        for match in [pattern.search(text)]
        if match
    ]
    assert found == []


def test_no_file_is_a_lock_that_records_hosts():
    assert [name(path) for path in project_files() if path.name in ("uv.lock", "poetry.lock", "Pipfile.lock")] == []


def test_constraints_pin_exact_versions_and_nothing_else():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9.-]+==[\w.]+( ; .+)?", line)] == []


def test_constraints_cover_what_the_project_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["dashboard"], *extras["dev"], *extras["docs"]]
    names = {re.split(r"[^\w-]", requirement)[0].lower().replace("_", "-") for requirement in asked}
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert sorted(names - pinned) == []
