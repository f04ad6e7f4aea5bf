"""Listing: what a path stands for, in which order, with which identity."""

import pickle
from pathlib import Path

import fsspec
import pytest

from marco_data.errors import RecipeError, RetryableError
from marco_data.filesystems import filesystem_of
from marco_data.sources import Source, SourceFile, list_files, read_slice, split
from marco_data.storage import Storage


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f'{{"text": "{name}"}}\n')


def listed(*paths: object, languages: set[str] | None = None, **source: object) -> list[SourceFile]:
    return list_files("src", Source(paths=tuple(map(str, paths)), **source), languages)


@pytest.mark.parametrize(
    ("name", "format", "compression"),
    [
        ("a.jsonl", "jsonl", None),
        ("a.ndjson.gz", "jsonl", "gz"),
        ("a.JSON.zst", "jsonl", "zst"),
        ("a.parquet", "parquet", None),
        ("a.warc.gz", "warc", "gz"),
        ("a.warc.wet.gz", "wet", "gz"),
        ("a.wet", "wet", None),
        ("a.txt.gz", "text", "gz"),
    ],
)
def test_the_name_tells_the_format(tmp_path: Path, name: str, format: str, compression: str | None) -> None:
    make(tmp_path, name, "a.warc.wat.gz", "README.md", ".hidden.jsonl", ".git/a.jsonl")
    (file,) = listed(tmp_path)
    assert (file.name, file.format, file.compression) == (name, format, compression)


def test_a_named_file_is_read_as_the_recipe_says(tmp_path: Path) -> None:
    make(tmp_path, "part-0", "part-1.gz", "b.txt")
    assert [(f.name, f.compression) for f in listed(tmp_path / "part-*", read="jsonl")] == [
        ("part-0", None),
        ("part-1.gz", "gz"),
    ]
    with pytest.raises(RecipeError, match="no file to read"):
        listed(tmp_path / "part-*")
    with pytest.raises(RecipeError, match="no file to read"):
        listed(tmp_path, read="parquet")


def test_a_path_that_matches_nothing_tells_what_is_there(tmp_path: Path) -> None:
    make(tmp_path, "a.csv", "b.csv")
    with pytest.raises(RecipeError, match=r"source `src`: no file to read at .*; looked for \.jsonl") as raised:
        listed(tmp_path / "*.jsonl", read="jsonl")
    assert "holds `a.csv`, `b.csv`" in str(raised.value)
    with pytest.raises(RecipeError, match="there is nothing at"):
        listed(tmp_path / "missing" / "*.jsonl")
    with pytest.raises(RecipeError, match="cannot read `nope://x`"):
        listed("nope://x")


def test_names_and_identity_do_not_depend_on_the_place(tmp_path: Path) -> None:
    for root in ("one", "else/where"):
        make(tmp_path / root, "b/x.jsonl", "a/x.jsonl")
    one, other = (split(listed(tmp_path / root), 10) for root in ("one", "else/where"))
    assert {piece.files[0].name for piece in one} == {"a/x.jsonl", "b/x.jsonl"}
    assert [piece.identity() for piece in one] == [piece.identity() for piece in other]
    assert [piece.files[0].uri for piece in one] != [piece.files[0].uri for piece in other]


def test_equal_names_of_two_paths_are_told_apart_by_content(tmp_path: Path) -> None:
    make(tmp_path, "one/x.jsonl", "two/x.jsonl")
    (tmp_path / "one/x.jsonl").write_text("longer than the other one\n" * 9)
    forward = listed(tmp_path / "one", tmp_path / "two")
    assert [file.name for file in forward] == ["x.jsonl", "x.jsonl#2"]
    assert listed(tmp_path / "two", tmp_path / "one") == forward


def test_a_file_that_two_paths_name_is_read_once(tmp_path: Path) -> None:
    make(tmp_path, "x.jsonl")
    assert len(listed(tmp_path, tmp_path / "*.jsonl", tmp_path / "x.jsonl")) == 1


def test_a_hidden_file_is_read_only_by_name(tmp_path: Path) -> None:
    make(tmp_path, ".a.jsonl", "b.jsonl")
    assert [file.name for file in listed(tmp_path / "*.jsonl")] == ["b.jsonl"]
    assert [file.name for file in listed(tmp_path / ".a.jsonl")] == [".a.jsonl"]


def test_a_name_with_glob_characters_is_a_name(tmp_path: Path) -> None:
    make(tmp_path, "x[1].jsonl", "x1.jsonl")
    assert [file.name for file in listed(tmp_path / "x[1].jsonl")] == ["x[1].jsonl"]


@pytest.mark.parametrize("pattern", ["{language}/*.jsonl", "{language}", "{language}/**/*.jsonl", "{language}/?.jsonl"])
def test_a_path_component_declares_the_language(tmp_path: Path, pattern: str) -> None:
    make(tmp_path, "bn/a.jsonl", "deu_Latn/a.jsonl", "deu_Latn/b.jsonl")
    files = listed(tmp_path / pattern)
    assert [(f.name, f.declared_language) for f in files] == [
        ("bn/a.jsonl", "ben_Beng"),
        ("deu_Latn/a.jsonl", "deu_Latn"),
        ("deu_Latn/b.jsonl", "deu_Latn"),
    ]
    assert [f.name for f in listed(tmp_path / pattern, languages={"ben_Beng"})] == ["bn/a.jsonl"]
    assert listed(tmp_path / pattern, languages={"eng_Latn"}) == []


def test_an_unknown_language_is_an_error_unless_languages_are_chosen(tmp_path: Path) -> None:
    make(tmp_path, "data/bn.jsonl", "data/klingon.jsonl")
    with pytest.raises(RecipeError, match=r"klingon\.jsonl` stands for the unknown language `klingon`"):
        listed(tmp_path / "data" / "{language}.jsonl")
    (file,) = listed(tmp_path / "data" / "{language}.jsonl", languages={"ben_Beng"})
    assert (file.name, file.declared_language) == ("bn.jsonl", "ben_Beng")


def test_a_source_declares_one_language_for_all(tmp_path: Path) -> None:
    make(tmp_path, "a.jsonl")
    assert listed(tmp_path, language="bn")[0].declared_language == "ben_Beng"
    with pytest.raises(RecipeError):
        listed(tmp_path, language="klingon")


@pytest.mark.parametrize("size", [0, 10, 1 << 20, (1 << 20) + 1, 3 << 20])
@pytest.mark.parametrize("verify", [False, True])
def test_a_digest_sees_both_ends_and_with_verify_all(tmp_path: Path, size: int, verify: bool) -> None:
    path, source = tmp_path / "a.jsonl", Source(paths=(str(tmp_path),))
    path.write_bytes(b"x" * size)
    (before,) = list_files("src", source, verify=verify)
    for at in {0, size // 2, size - 1} if size else set():
        data = bytearray(b"x" * size)
        data[at] = 0
        path.write_bytes(data)
        (after,) = list_files("src", source, verify=verify)
        seen = verify or at < 1 << 20 or at >= size - (1 << 20)
        assert (after.digest != before.digest) == seen


def test_a_cached_digest_holds_while_the_storage_names_the_same_content(bucket) -> None:
    place = bucket("cached")
    storage = Storage(place)
    storage.replace("a.jsonl", b'{"text": "one"}\n')
    source, cache = Source(paths=(place,)), {}
    (before,) = list_files("src", source, cache=cache)
    assert list(cache.values()) == [before.digest]
    cache[next(iter(cache))] = "cached"
    assert list_files("src", source, cache=cache)[0].digest == "cached"
    storage.replace("a.jsonl", b'{"text": "two"}\n')
    filesystem_of(place, "this")[0].invalidate_cache()  # a run lists a folder once
    (after,) = list_files("src", source, cache=cache)
    assert after.digest not in ("cached", before.digest)


def test_of_a_file_that_has_only_a_time_no_digest_is_cached(tmp_path: Path) -> None:
    make(tmp_path, "a.jsonl")
    cache: dict[str, object] = {}
    list_files("src", Source(paths=(str(tmp_path),)), cache=cache)
    assert cache == {}


@pytest.mark.parametrize("when", ["before", "during"])
@pytest.mark.parametrize("suffix", ["jsonl", "txt"])
def test_a_file_that_changes_is_tried_again(tmp_path: Path, when: str, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b'{"text": "a"}\n' * 100)
    source = Source(paths=(str(path),))
    (piece,) = split(list_files("src", source), 1 << 20)
    batches = read_slice(piece, "src", source, batch_rows=1)
    if when == "during" and suffix == "jsonl":
        next(batches)
    path.write_bytes(b'{"text": "a"}\n' * 99)
    with pytest.raises(RetryableError, match="changed after it was listed"):
        list(batches)


def test_a_file_that_is_gone_is_tried_again(tmp_path: Path) -> None:
    make(tmp_path, "a.jsonl")
    source = Source(paths=(str(tmp_path),))
    (piece,) = split(list_files("src", source), 1 << 20)
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(RetryableError):
        list(read_slice(piece, "src", source))


def test_slices_travel(tmp_path: Path) -> None:
    make(tmp_path, "a.jsonl")
    (piece,) = split(listed(tmp_path), 1 << 20)
    assert pickle.loads(pickle.dumps(piece)) == piece
    assert piece.name == "src/a.jsonl[0:20]"


@pytest.mark.parametrize("prefix", ["memory://sources-test/lake", "file://{tmp}"])
def test_any_fsspec_url_is_read(tmp_path: Path, prefix: str) -> None:
    root = prefix.format(tmp=tmp_path)
    for name in ("de/a.jsonl", "en/b.jsonl"):
        with fsspec.open(f"{root}/{name}", "w") as out:
            out.write(f'{{"text": "{name}"}}\n')
    source = Source(paths=(f"{root}/{{language}}/*.jsonl",))
    pieces = split(list_files("src", source), 1 << 20)
    rows = [row for piece in pieces for batch in read_slice(piece, "src", source) for row in batch.to_pylist()]
    assert [(row["text"], row["declared_language"]) for row in rows] == [
        ("de/a.jsonl", "deu_Latn"),
        ("en/b.jsonl", "eng_Latn"),
    ]
