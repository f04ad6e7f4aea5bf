"""A build that starts again looks at no file of a bucket whose listing says that it is as it was."""

from pathlib import Path

import pytest
from command_line import marco
from small_corpus import recipe_values, write_corpus, write_recipe

from marco_data.errors import RetryableError
from marco_data.sources import Source, found_before, list_files, read_slice, split
from marco_data.sources.found_before import FOLDER, Found, load, save
from marco_data.storage import Storage
from marco_data.storage_counts import COUNTS


@pytest.fixture
def recipe(bucket, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The small corpus in a bucket, and a recipe over it."""
    place = bucket(f"found-{abs(hash(request.node.name)) % 10**8}")
    corpus = write_corpus(tmp_path / "in")
    for path in corpus.rglob("*.*"):
        Storage(place).replace(path.relative_to(corpus).as_posix(), path.read_bytes())
    return write_recipe(tmp_path / "r.yaml", recipe_values(Path("in")) | {"sources": at(recipe_values(corpus), place)})


def at(values, place: str):
    for source, pattern in (("web", "web/*"), ("books", "books/*.parquet")):
        values["sources"][source]["paths"] = [f"{place}/{pattern}"]
    return values["sources"]


def asked_for(*words: object) -> int:
    """Requests for bytes of objects that a command makes."""
    before = COUNTS.copy()
    done = marco(*words)
    assert done.code == 0, done.err
    return COUNTS.since(before).requests["get_object"]


def test_a_second_start_reads_what_it_checks_and_no_more(recipe: Path, tmp_path: Path):
    build = ("build-stage", 3, "--recipe", recipe, "--root", tmp_path / "out", "--executor", "local")
    assert marco(*build).code == 0
    kept = sorted(path.name for path in (tmp_path / "out" / FOLDER).iterdir())
    assert len(kept) == 2
    checks = 3  # the first rows of a JSONL file; a Parquet file's schema, in two stretches
    assert asked_for(*build) <= checks
    for path in (tmp_path / "out" / FOLDER).iterdir():
        path.unlink()
    assert asked_for(*build) >= checks + 4, "four files' ends"
    assert sorted(path.name for path in (tmp_path / "out" / FOLDER).iterdir()) == kept


def test_a_plan_uses_what_is_known_and_writes_nothing(recipe: Path, tmp_path: Path):
    plan = ("plan", recipe, "--root", tmp_path / "out", "--probe", 0)
    before = asked_for(*plan)
    assert not (tmp_path / "out").exists()
    build = ("build-stage", 3, "--recipe", recipe, "--root", tmp_path / "out", "--executor", "local")
    assert marco(*build).code == 0
    assert asked_for(*plan) <= before - 4


def test_an_object_that_was_replaced_is_looked_at_again(recipe: Path, tmp_path: Path, bucket):
    build = ("build-stage", 3, "--recipe", recipe, "--root", tmp_path / "out", "--executor", "local", "--json")
    first = marco(*build).json
    place = recipe.read_text().partition("s3://")[2].partition("/books")[0].partition("/web")[0]
    storage = Storage(f"s3://{place}")
    text = storage.read("web/c.jsonl")
    assert text
    rows = text.splitlines(keepends=True)
    storage.replace("web/c.jsonl", b"".join(reversed(rows)))  # as many bytes
    assert load(Storage(str(tmp_path / "out")), Source(paths=(f"s3://{place}/web/*",)))
    second = marco(*build).json
    assert (second["balanced"], second["documents"]) == (True, first["documents"])
    storage.replace("web/c.jsonl", b"".join(rows[:-1]))
    assert marco(*build).json["documents"]["read"] == first["documents"]["read"] - 1


def test_what_is_kept_does_not_grow_by_what_is_gone(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(found_before, "UNUSED", 15)
    storage, source = Storage(str(tmp_path)), Source(paths=("s3://somewhere/*",))
    for generation in range(5):
        found = load(storage, source)
        for number in range(10):
            found[f"ends 1 {generation} {number}"] = "digest"
        save(storage, source, found)
    assert len(load(storage, source)) <= 25
    assert {f"ends 1 4 {number}" for number in range(10)} <= set(load(storage, source))


def test_no_flipped_bit_is_taken_for_another_identity(tmp_path: Path):
    storage, source = Storage(str(tmp_path)), Source(paths=("s3://somewhere/*",))
    found = Found()
    found["ends 1 2 s3://somewhere/a"] = "0123456789abcdef" * 4
    save(storage, source, found)
    (path,) = (tmp_path / FOLDER).iterdir()
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        assert load(storage, source) in ({}, found)


def test_what_was_found_out_before_a_storage_gave_up_is_kept(recipe: Path, tmp_path: Path, monkeypatch):
    build = ("build-stage", 3, "--recipe", recipe, "--root", tmp_path / "out", "--executor", "local")

    def gives_up(file, options):
        raise RetryableError("too many requests")

    monkeypatch.setattr("marco_data.sources.parquet.row_groups", gives_up)
    assert marco(*build).code == 1
    assert len(list((tmp_path / "out" / FOLDER).iterdir())) == 1, "the book's digest"


def test_a_footer_that_could_not_be_read_is_read_again(tmp_path: Path, monkeypatch):
    corpus = write_corpus(tmp_path / "in")
    source = Source(paths=(f"{corpus}/books/*.parquet",))
    files = list_files("books", source)
    cache: dict[str, object] = {}
    with monkeypatch.context() as patch:
        patch.setattr("marco_data.sources.parquet.row_groups", lambda file, options: [])
        (piece,) = split(files, 1 << 20, cache=cache)
        assert cache == {}
    with pytest.raises(RetryableError, match="had none when it was listed"):
        list(read_slice(piece, "books", source))
    assert sum(len(b) for p in split(files, 1 << 20, cache=cache) for b in read_slice(p, "books", source)) == 7


@pytest.mark.parametrize("data", [b"", b"not zstd", b"(\xb5/\xfd\x04\x00", b"(\xb5/\xfd \x02\x11\x00\x0012"])
def test_what_cannot_be_read_is_found_out_again(data: bytes, tmp_path: Path):
    storage, source = Storage(str(tmp_path)), Source(paths=("s3://somewhere/*",))
    found = Found()
    found["a"] = 1
    save(storage, source, found)
    assert load(storage, source) == {"a": 1}
    (path,) = (tmp_path / FOLDER).iterdir()
    path.write_bytes(data)
    assert load(storage, source) == {}
