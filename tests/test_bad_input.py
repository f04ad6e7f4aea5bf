"""Bad input: a user's mistake ends in a sentence and never in a traceback; a damaged file costs what is damaged.

After every build here, `read` is what an outside count of the input says and the books balance.
"""

import contextlib
import gzip
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zstandard
from roots import COMMAND, HERE, digests, environment
from small_corpus import CODES, parquet_bytes, prose, recipe_values, row, write_corpus, write_jsonl, write_recipe

from marco_data.cli import main

ROWS = [row(code, n) for code in CODES for n in (0, 1, 2)]
DATA = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in ROWS).encode()
FIELDS = {"text": "text", "id": "id", "url": "url"}
# Damage is the subject here, so a build may be half damaged; what the limits do has tests of its own.
TOLERANT = {"failed_rows": 0.6, "failed_files": 1.0}


@dataclass(frozen=True)
class Told:
    """What a command told: exit code, standard output and standard error."""

    code: int
    out: str
    err: str

    @property
    def stats(self) -> dict[str, Any]:
        return json.loads(self.out)

    @property
    def failed(self) -> dict[str, int]:
        return self.stats["documents"]["failed"]


Command = Callable[..., Told]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """A command in this process. A traceback is never an answer to a user."""
    monkeypatch.setenv("COLUMNS", "300")

    def command(*arguments: str | Path) -> Told:
        monkeypatch.setattr(sys, "argv", ["marco-data", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        return Told(int(ended.value.code or 0), said.out, said.err)

    return command


def recipe(folder: Path, *paths: str | Path, **changes: Any) -> Path:
    """A recipe over one source `web` of these files; `changes` replace its keys."""
    web = {"paths": [str(p) for p in paths], "fields": FIELDS}
    values = recipe_values(folder) | {"sources": {"web": web}, "mixture": {"web": {"weight": 1}}, "limits": TOLERANT}
    return write_recipe(folder / "recipe.yaml", values | changes)


@pytest.fixture
def build(run: Command, tmp_path: Path) -> Command:
    """Build a stage from files: `build(path, ..., read=rows an outside count finds)`; the books are checked."""

    def command(*paths: str | Path, read: int | range, code: int = 0, **changes: Any) -> Told:
        file = recipe(tmp_path, *paths, **changes)
        told = run("build-stage", 3, "--recipe", file, "--root", tmp_path / "out", "--executor", "local", "--json")
        assert told.code == code, told.err
        assert told.stats["balanced"] is True
        assert told.stats["documents"]["read"] in (read if isinstance(read, range) else [read])
        return told

    return command


# -- damaged files ------------------------------------------------------------------------------------------------


def broken_gzip(data: bytes, how: str) -> bytes:
    packed = bytearray(gzip.compress(data, mtime=0))
    if how == "truncated":
        return bytes(packed[: len(packed) * 2 // 3])
    if how == "flipped":
        packed[len(packed) * 2 // 3] ^= 0xFF
        return bytes(packed)
    return b"this is no gzip at all, whatever its name says\n"


def broken_zstd(data: bytes, how: str) -> bytes:
    # Small blocks, because a block is all or nothing to the decoder; a checksum, because only that tells a flip.
    sink = zstandard.ZstdCompressor(level=1, write_checksum=True).compressobj()
    pieces = [data[i : i + 4096] for i in range(0, len(data), 4096)]
    parts = [sink.compress(piece) + sink.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) for piece in pieces]
    packed = bytearray(b"".join(parts) + sink.flush())
    if how == "truncated":
        return bytes(packed[: len(packed) * 2 // 3])
    if how == "flipped":
        middle = len(packed) * 2 // 3
        packed[middle : middle + 64] = b"\xff" * 64
        return bytes(packed)
    return b"this is no zstd at all, whatever its name says\n"


BREAKS = {"truncated": "read/truncated", "flipped": "read/corrupt", "unreadable": "read/unreadable"}


@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize(("suffix", "pack"), [(".jsonl.gz", broken_gzip), (".jsonl.zst", broken_zstd)])
def test_good_rows_before_a_break_are_kept_and_the_break_is_counted(how, suffix, pack, build, tmp_path):
    (tmp_path / f"bad{suffix}").write_bytes(pack(DATA, how))
    write_jsonl(tmp_path / "good.jsonl", [ROWS[0] | {"id": "extra", "text": prose("eng_Latn")[3]}])
    lines = lines_before_the_break(tmp_path / f"bad{suffix}")
    # The zstd decoder keeps back what it made of the last 2 KiB before an error: a few lines, here three.
    lost = 4 if (how, suffix) == ("flipped", ".jsonl.zst") else 0
    told = build(tmp_path / f"bad{suffix}", tmp_path / "good.jsonl", read=range(lines + 2 - lost, lines + 3))
    breaks = {reason: n for reason, n in told.failed.items() if reason in BREAKS.values()}
    assert breaks == {BREAKS[how]: 1}
    if how == "truncated":  # a flip may spoil lines before the decoder can tell; a cut does not
        assert breaks == told.failed
        assert told.stats["documents"]["kept"] == lines + 1 >= 4
    assert "warning: 1 of 2 files of `web` are broken" in told.err


def lines_before_the_break(path: Path) -> int:
    """Whole lines that another reader gets out of a damaged file."""
    if path.suffix == ".gz":
        return subprocess.run(["gzip", "-dc", path], capture_output=True, check=False).stdout.count(b"\n")
    decoder, out = zstandard.ZstdDecompressor().decompressobj(), b""
    with contextlib.suppress(zstandard.ZstdError):
        for byte in path.read_bytes():
            out += decoder.decompress(bytes([byte]))
    return out.count(b"\n")


def test_a_truncated_parquet_file_is_one_failed_row(build, tmp_path):
    data = parquet_bytes(ROWS)
    (tmp_path / "bad.parquet").write_bytes(data[: len(data) // 2])
    write_jsonl(tmp_path / "good.jsonl", ROWS)
    told = build(tmp_path / "bad.parquet", tmp_path / "good.jsonl", read=len(ROWS) + 1)
    assert told.failed == {"read/truncated": 1}


def test_a_damaged_page_of_a_parquet_file_costs_its_row_group_from_there_on(build, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(
        pa.Table.from_pylist(ROWS), tmp_path / "bad.parquet", row_group_size=7, compression="none",
        use_dictionary=False, write_page_checksum=True,
    )  # fmt: skip
    data = bytearray((tmp_path / "bad.parquet").read_bytes())
    at = data.index(prose(CODES[3])[0].encode()[:40])  # in the second of three row groups
    data[at : at + 20] = b"\xff" * 20
    (tmp_path / "bad.parquet").write_bytes(data)
    told = build(tmp_path / "bad.parquet", read=14 + 1)
    assert told.failed == {"read/corrupt": 1}


def test_a_warc_file_cut_short_keeps_its_records_before_the_cut(build, checkout, tmp_path):
    whole = (checkout / "recipes/sample/sources/crawl/pages.warc.gz").read_bytes()
    (tmp_path / "cut.warc.gz").write_bytes(whole[: len(whole) // 2])
    from warcio.archiveiterator import ArchiveIterator

    # warcio hands out the record that the cut goes through like any other: only its length tells.
    with (tmp_path / "cut.warc.gz").open("rb") as file:
        whole_records = sum(
            len(record.raw_stream.read()) == record.length
            for record in ArchiveIterator(file, no_record_parse=True)
            if record.rec_type in ("response", "resource")
        )
    told = build(read=whole_records + 1, sources={"web": {"paths": [str(tmp_path / "cut.warc.gz")]}})
    assert told.failed["read/truncated"] == 1


def test_a_warc_that_is_none_is_one_failed_row(build, tmp_path):
    (tmp_path / "bad.warc").write_bytes(b"<html>not a crawl</html>\n" * 20)
    web = {"paths": [str(tmp_path / "bad.warc")]}
    assert build(read=1, code=0, sources={"web": web}, limits={"failed_rows": 1, "failed_files": 1}).failed == {
        "read/unreadable": 1
    }


def test_rows_that_are_no_documents_fail_one_by_one_and_are_listed(build, run, tmp_path):
    bad = [b'{"id": "x", "text": "caf\xe9"}', b"{broken", b"", b"[1, 2]", b'{"id": "y"}', b'{"text": 7}', b"\0\0\0"]
    (tmp_path / "bad.jsonl").write_bytes(DATA + b"\n".join(bad) + b"\n")
    told = build(tmp_path / "bad.jsonl", read=DATA.count(b"\n") + len(bad))
    assert told.failed == {
        "read/invalid_utf8": 1,
        "read/invalid_json": 2,
        "read/empty_line": 1,
        "read/not_an_object": 1,
        "read/missing_field": 2,
    }
    listed = run("failures", 3, "--family", "small", "--root", tmp_path / "out", "--json")
    rows = [json.loads(line) for line in listed.out.splitlines()]
    assert len(rows) == len(bad)
    assert {r["first_bytes"] for r in rows if r["failed"] == "read/invalid_json"} == {"{broken", r"\x00\x00\x00"}


def test_nul_bytes_inside_a_text_lose_no_document(build, tmp_path):
    texts = [prose("eng_Latn")[0].replace(" ", " \0", 3), "\0" * 500, prose("eng_Latn")[1] + "\0"]
    write_jsonl(tmp_path / "nul.jsonl", [{"id": str(i), "url": "", "text": t} for i, t in enumerate(texts)])
    told = build(tmp_path / "nul.jsonl", read=3)
    assert told.stats["documents"]["kept"] == 2
    assert list(told.stats["documents"]["dropped"]) in (["normalize/binary"], ["normalize/empty"])


@pytest.mark.parametrize("name", ["empty.jsonl", "empty.jsonl.gz", "empty.jsonl.zst", "empty.parquet", "empty.warc"])
def test_a_file_of_no_bytes_fails_only_where_its_format_has_none(name, build, tmp_path):
    (tmp_path / name).write_bytes(b"")
    good = write_jsonl(tmp_path / "good.jsonl", ROWS)
    # An empty text file or WARC has no records; an empty gzip, zstd or Parquet file is none.
    broken = name not in ("empty.jsonl", "empty.warc")
    told = build(tmp_path / name, good, read=len(ROWS) + broken)
    assert sum(told.failed.values()) == broken


def test_a_source_of_nothing_but_an_empty_file_is_an_empty_stage(build, tmp_path):
    (tmp_path / "empty.jsonl").write_bytes(b"")
    told = build(tmp_path / "empty.jsonl", read=0)
    assert told.stats["shards"] == []


def test_a_parquet_file_without_rows_is_no_failure(build, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(ROWS).slice(0, 0), tmp_path / "none.parquet")
    good = write_jsonl(tmp_path / "good.jsonl", ROWS)
    assert build(tmp_path / "none.parquet", good, read=len(ROWS)).failed == {}


def test_an_empty_text_file_is_an_empty_document(build, tmp_path):
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "b.txt").write_text(prose("eng_Latn")[0], "utf-8")
    told = build(read=2, sources={"web": {"paths": [str(tmp_path / "*.txt")]}})
    assert told.stats["documents"]["dropped"] == {"normalize/empty": 1}


def test_one_broken_text_file_among_many_counts_as_one(build, tmp_path):
    for i, text in enumerate(prose("eng_Latn")[:3]):
        (tmp_path / f"{i}.txt").write_text(text, "utf-8")
    (tmp_path / "bad.txt.gz").write_bytes(broken_gzip(DATA, "truncated"))
    told = build(read=4, sources={"web": {"paths": [f"{tmp_path}/*.txt", f"{tmp_path}/*.txt.gz"]}})
    assert "1 of 4 files of `web` are broken" in told.err


def test_the_same_id_twice_is_dropped_or_renamed_and_never_lost(build, run, tmp_path):
    same = ROWS[0]
    other = ROWS[0] | {"text": prose("eng_Latn")[3]}
    write_jsonl(tmp_path / "a.jsonl", [*ROWS, same])
    write_jsonl(tmp_path / "b.jsonl", [other])
    told = build(tmp_path / "a.jsonl", tmp_path / "b.jsonl", read=len(ROWS) + 2)
    assert told.stats["documents"]["dropped"]["dedup/same_id"] == 1
    answers = run("why", same["id"], "--family", "small", "--root", tmp_path / "out", "--json").out.splitlines()
    told_of = [(a["verdict"], a["reason"]) for a in map(json.loads, answers)]
    assert sorted(told_of, key=str) == [("dropped", "dedup/same_id"), ("kept", None), ("kept", None)]
    assert len({json.loads(a)["id"] for a in answers if json.loads(a)["verdict"] == "kept"}) == 2


def test_a_document_of_200_megabytes_fails_alone_in_bounded_memory(tmp_path):
    """In a process of its own, whose peak is its own: the largest document is never held whole."""
    with (tmp_path / "big.jsonl").open("wb") as file:
        file.write(DATA + b'{"id": "big", "text": "')
        for _ in range(200):
            file.write(b"All work and no play makes this a very long document. ".ljust(1 << 10, b"x") * (1 << 10))
        file.write(b'"}\n' + json.dumps(row("eng_Latn", 3)).encode() + b"\n")
    file = recipe(tmp_path, tmp_path / "big.jsonl")
    arguments = ["build-stage", "3", "--recipe", str(file), "--root", str(tmp_path / "out"), "--executor", "local"]
    # Not getrusage: its peak survives exec, and would be that of the process the tests run in.
    code = (
        "import re, sys\nfrom pathlib import Path\nfrom marco_data.cli import main\n"
        "try:\n    main()\nfinally:\n    status = Path('/proc/self/status').read_text()\n"
        "    print(re.search(r'VmHWM:\\s+([0-9]+)', status)[1], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--json"], env=environment(tmp_path), capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    stats = json.loads(done.stdout)
    assert stats["balanced"] is True
    assert stats["documents"]["read"] == len(ROWS) + 2
    assert stats["documents"]["failed"] == {"read/document_too_large": 1}
    # Half a GB is the libraries and the embedded language model; the document would be 200 MB more, several times.
    assert int(done.stderr.split()[-1]) < 700_000


# -- limits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("allowed", "code", "word"), [(0.05, 0, "warning"), (0.04, 1, "error")])
def test_failed_rows_within_the_limit_are_a_warning_and_above_it_an_error(allowed, code, word, build, tmp_path):
    (tmp_path / "a.jsonl").write_bytes(DATA + b"{broken\n")  # one row of 22: 4.5 %
    told = build(tmp_path / "a.jsonl", read=len(ROWS) + 1, code=code, limits={"failed_rows": allowed})
    assert f"{word}: 1 of 22 rows could not be judged (read/invalid_json 1)" in told.err


@pytest.mark.parametrize(("allowed", "code", "word"), [(0.5, 0, "warning"), (0.4, 1, "error")])
def test_broken_files_within_the_limit_are_a_warning_and_above_it_an_error(allowed, code, word, build, tmp_path):
    write_jsonl(tmp_path / "good.jsonl", ROWS)
    (tmp_path / "bad.jsonl.gz").write_bytes(broken_gzip(DATA, "unreadable"))
    limits = {"failed_rows": 0.5, "failed_files": allowed}
    told = build(tmp_path / "good.jsonl", tmp_path / "bad.jsonl.gz", read=len(ROWS) + 1, code=code, limits=limits)
    assert f"{word}: 1 of 2 files of `web` are broken" in told.err


# -- mistakes -----------------------------------------------------------------------------------------------------


MISTAKES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "an unknown language": ({"languages": ["eng_Latn", "benn_Beng"]}, ("recipe.yaml:", "benn_Beng", "ben_Beng")),
    "a tokenizer that is not there": ({"tokenizer": {"path": "none.json"}}, ("none.json", "tokenizer")),
    "a wrong end of document": (
        {"tokenizer": {"path": recipe_values(Path("x"))["tokenizer"]["path"], "end_of_document": "<|eos|>"}},
        ("<|eos|>",),
    ),
    "a negative weight": ({"mixture": {"web": {"weight": -1}}}, ("recipe.yaml:", "mixture.web.weight")),
    "a limit above one": ({"limits": {"failed_rows": 10}}, ("recipe.yaml:", "limits.failed_rows")),
    "a step that is not there": ({"steps": {"extra": [{"step": "no_such:Step"}]}}, ("no_such:Step",)),
    "a model that is not there": ({"steps": {"identify_language": {"model": "none.ftz"}}}, ("none.ftz",)),
    "a pipeline that is not there": ({"pipeline": "no_such:pipeline"}, ("no_such:pipeline",)),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_a_recipe_starts_nothing_and_is_told(name, run, tmp_path):
    changes, words = MISTAKES[name]
    write_jsonl(tmp_path / "a.jsonl", ROWS)
    file = recipe(tmp_path, tmp_path / "a.jsonl", **changes)
    told = run("build-stage", 3, "--recipe", file, "--root", tmp_path / "out", "--executor", "local")
    assert told.code == 2
    assert told.err.startswith("error: ")
    assert [word for word in words if word not in told.err] == []
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("measure-*"))


def test_a_typo_in_a_recipe_is_told_with_file_line_and_the_key_that_was_meant(run, tmp_path):
    file = recipe(tmp_path, write_jsonl(tmp_path / "a.jsonl", ROWS))
    file.write_text(file.read_text().replace("weight:", "wieght:"))
    line = file.read_text().splitlines().index("    wieght: 1") + 1
    told = run("build-stage", 3, "--recipe", file, "--root", tmp_path / "out", "--executor", "local")
    assert told.code == 2
    assert f"{file}:{line}: unknown key `mixture.web.wieght`; did you mean `weight`?" in told.err


WRONG_COMMANDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "a family": (("3", "--family", "marko"), ("marko", "sample")),
    "a stage": (("7",), ("no stage 7", "1, 2, 3, 4")),
    "a stage of no number": (("three",), ("stage", "valid integer")),
    "a recipe file": (("3", "--recipe", "none.yaml"), ("none.yaml",)),
    "a language not in the recipe": (("1", "--languages", "en,yo"), ("yor_Latn", "not in this recipe")),
    "a language of nobody": (("3", "--languages", "xx_Klingon"), ("xx_Klingon",)),
    "no language": (("3", "--languages", ","), ("names no language",)),
    "a field": (("3", "--input", "here.jsonl", "--field", "txt=body"), ("txt", "text")),
    "a field without a column": (("3", "--input", "here.jsonl", "--field", "text"), ("text=COLUMN",)),
    "a field without input": (("3", "--field", "text=body"), ("--input",)),
    "a budget": (("3", "--budget", "many"), ("many",)),
    "a negative budget": (("3", "--budget", "-5"), ("-5",)),
    "an executor": (("3", "--executor", "spark"), ("spark", "ray", "local")),
    "an address for local": (("3", "--executor", "local", "--address", "x:1"), ("--address",)),
    "workers": (("3", "--workers", "0"), ("--workers",)),
    "a sample rate": (("3", "--sample", "2"), ("--sample",)),
    "an option": (("3", "--famly", "sample"), ("--famly", "--family")),
    "an input that is not there": (("3", "--input", "none.jsonl"), ("none.jsonl",)),
    "an input of no format": (("3", "--input", "here.doc"), ("here.doc",)),
    "an input of an unknown protocol": (("3", "--input", "gopher://x/y.jsonl"), ("gopher",)),
}


@pytest.mark.parametrize("name", WRONG_COMMANDS)
def test_a_wrong_command_ends_with_2_and_says_what_is_wrong(name, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "here.jsonl", ROWS)
    (tmp_path / "here.doc").write_text("a document")
    options, words = WRONG_COMMANDS[name]
    executor = () if "--executor" in options else ("--executor", "local")
    told = run("build-stage", *options, *executor)
    assert told.code == 2
    assert [word for word in words if word not in told.err] == []
    assert not list(tmp_path.glob("marco-out/measure-*"))


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_field_the_file_lacks_is_told_with_those_it_has(suffix, run, tmp_path):
    rows = [{"key": r["id"], "content": r["text"]} for r in ROWS]
    path = tmp_path / f"mine{suffix}"
    path.write_bytes(parquet_bytes(rows)) if suffix == ".parquet" else write_jsonl(path, rows)
    wrong = run("build-stage", 3, "--input", path, "--root", tmp_path / "out", "--executor", "local")
    assert wrong.code == 2
    assert "has no field `text`; it has: `key`, `content`" in wrong.err
    assert "--field text=NAME" in wrong.err
    right = run(
        "build-stage", 3, "--input", path, "--root", tmp_path / "out", "--executor", "local",
        "--field", "text=content", "--field", "id=key", "--json",
    )  # fmt: skip
    assert right.code == 0, right.err
    assert right.stats["documents"]["read"] == len(rows)


@pytest.mark.parametrize("command", ["stats", "failures"])
def test_asking_for_a_stage_that_was_not_built_says_how_to_build_it(command, run, tmp_path):
    told = run(command, 3, "--root", tmp_path)
    assert told.code == 2
    assert f"marco-data build-stage 3 --family sample --root {tmp_path}" in told.err


def test_a_root_that_cannot_be_written_is_told_before_anything_is_read(run, tmp_path):
    (tmp_path / "file").write_text("in the way")
    told = run("build-stage", 3, "--root", tmp_path / "file" / "out", "--executor", "local")
    assert told.code == 2
    assert "cannot write to the root" in told.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_root_is_told_before_anything_is_read(run, tmp_path):
    (tmp_path / "out").mkdir(mode=0o500)
    told = run("build-stage", 3, "--root", tmp_path / "out", "--executor", "local")
    assert told.code == 2
    assert "cannot write to the root" in told.err


# -- the machine --------------------------------------------------------------------------------------------------


def test_a_full_disk_ends_the_run_in_a_sentence_and_a_rerun_completes(run, tmp_path):
    file = recipe(tmp_path, write_jsonl(tmp_path / "a.jsonl", ROWS))
    arguments = ("build-stage", "3", "--recipe", str(file), "--executor", "local", "--json")
    whole = run(*arguments, "--root", tmp_path / "whole")
    assert whole.code == 0, whole.err

    def no_file_above_20_000_bytes() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    full = subprocess.run(
        [*COMMAND, *arguments, "--root", str(tmp_path / "out")], env=environment(tmp_path), capture_output=True,
        text=True, check=False, preexec_fn=no_file_above_20_000_bytes,
    )  # fmt: skip
    assert full.returncode == 1
    assert "Traceback" not in full.stderr
    assert "error: " in full.stderr
    assert "hint: make room and run the same command again" in full.stderr
    again = run(*arguments, "--root", tmp_path / "out")
    assert again.code == 0, again.err
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_two_runs_on_one_root_at_once_both_end_right(run, tmp_path):
    write_corpus(tmp_path / "corpus")
    values = recipe_values(tmp_path / "corpus") | {"shards": {"bytes": 3000, "tokens": 2000}}
    values["steps"]["extra"] = [{"step": "fatal_steps:Sleeps", "arguments": {"seconds": 0.02}}]
    file = write_recipe(tmp_path / "small.yaml", values)
    arguments = ["build-stage", "3", "--recipe", str(file), "--executor", "local", "--json", "--root"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [*COMMAND, *arguments, str(tmp_path / "out")]
    both = [subprocess.Popen(command, env=environment(tmp_path), **pipes) for _ in range(2)]
    told = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert json.loads(told[0][0]) == json.loads(told[1][0])
    alone = subprocess.run(
        [*COMMAND, *arguments, str(tmp_path / "alone")], env=environment(tmp_path), capture_output=True, check=False
    )
    assert alone.returncode == 0
    assert digests(tmp_path / "out") == digests(tmp_path / "alone")


def test_a_file_that_changes_while_it_is_read_fails_and_a_rerun_reads_what_it_is_now(run, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(HERE)
    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    line = json.dumps(row("eng_Latn", 3)) + "\n"
    extra = [{"step": "fatal_steps:AppendsTo", "arguments": {"path": str(path), "line": line}}]
    steps = {"identify_language": {"threshold": 0.3}, "extra": extra}
    two_slices = {"bytes": len(DATA) * 2 // 3}
    file = recipe(tmp_path, path, steps=steps, shards=two_slices)
    arguments = ("build-stage", 3, "--recipe", file, "--root", tmp_path / "out", "--executor", "local", "--json")
    first = run(*arguments)
    assert first.code == 1
    assert "changed after it was listed (read/changed)" in first.err
    assert first.stats["complete"] is False
    again = run(*arguments)
    assert again.code == 0, again.err
    assert again.stats["balanced"] is True
    assert again.stats["documents"]["read"] == len(ROWS) + 1
