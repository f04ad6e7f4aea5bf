"""Which files a source has, and how they are cut into slices.

In: a `Source`. Out: `SourceFile`s in the order of their names, then `Slice`s. Files are found through fsspec,
so a path may be local, `s3://`, `hf://datasets/...`. Neither result depends on worker count, listing order or
on where the files lie.

Reads of a file: 2 MiB for its digest (all of it with `verify`), the footer of a Parquet file.
"""

import hashlib
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any, Literal

import xxhash

from marco_data import languages as language_codes
from marco_data.errors import RecipeError, RetryableError
from marco_data.filesystems import FileSystem, content_version, version_of
from marco_data.hub import hub_path, is_busy, is_pinned, pinned, refused, without_commit
from marco_data.sources import parquet
from marco_data.sources.source import Format, Slice, Source, SourceFile
from marco_data.sources.stream import open_filesystem

DIGEST_END_BYTES = 1 << 20
# Digests and footers are waits on storage: 16 at a time keep a listing of 10,000 S3 files near a minute.
STORAGE_THREADS = 16
TEXT_CUT_MODULUS = 64
PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds before a busy hub is asked for its files again."""

Compression = Literal["gz", "zst"] | None
Cache = MutableMapping[str, Any]

SUFFIXES: tuple[tuple[str, Format, Compression], ...] = (
    (".warc.wet.gz", "wet", "gz"),
    (".warc.wet", "wet", None),
    (".wet.gz", "wet", "gz"),
    (".wet", "wet", None),
    (".warc.gz", "warc", "gz"),
    (".warc", "warc", None),
    (".parquet", "parquet", None),
    (".jsonl", "jsonl", None),
    (".jsonl.gz", "jsonl", "gz"),
    (".jsonl.zst", "jsonl", "zst"),
    (".ndjson", "jsonl", None),
    (".ndjson.gz", "jsonl", "gz"),
    (".ndjson.zst", "jsonl", "zst"),
    (".json", "jsonl", None),
    (".json.gz", "jsonl", "gz"),
    (".json.zst", "jsonl", "zst"),
    (".txt.gz", "text", "gz"),
    (".txt", "text", None),
)


@dataclass(frozen=True)
class _Found:
    fs: FileSystem
    path: str
    info: Mapping[str, Any]
    name: str
    format: Format
    compression: Compression
    declared_language: str | None


def list_files(
    name: str,
    source: Source,
    languages: Collection[str] | None = None,
    *,
    storage_options: Mapping[str, Any] | None = None,
    cache: Cache | None = None,
    commits: MutableMapping[str, str] | None = None,
    verify: bool = False,
) -> list[SourceFile]:
    """Every file of the source, sorted by name. RecipeError where a path matches nothing.

    `languages` (canonical codes) selects among the values of `{language}`; None takes all, and then an
    unknown one is an error. `cache` keeps between calls the digests of files whose listing says what version their
    content is (keys and values are JSON), `commits` those at which repositories of a hub are read. `verify` digests all
    bytes: another digest, thus another identity, than that of both ends.
    """
    options = storage_options or {}
    commits = {} if commits is None else commits
    declared = None if source.language is None else language_codes.canonical(source.language).code
    found: dict[str, _Found] = {}
    for path in source.paths:
        expanded = partial(_expand, name, source.read, path, declared, languages, options, commits)
        for item in _patiently(path, expanded):
            found.setdefault(item.fs.unstrip_protocol(item.path), item)
    config = source.row_config()

    def listed(entry: tuple[str, _Found]) -> SourceFile:
        uri, item = entry
        size, version = int(item.info["size"]), version_of(item.info)
        digest = _cached_digest(item, uri, cache, verify=verify)
        return SourceFile(
            name,
            item.name,
            size,
            digest,
            item.format,
            item.compression,
            item.declared_language,
            config,
            uri,
            version,
        )

    with ThreadPoolExecutor(STORAGE_THREADS) as pool:
        files = list(pool.map(listed, found.items()))
    return _unique_names(sorted(files, key=lambda f: (f.name, f.size, f.digest)))


def _patiently(path: str, listing: Callable[[], Iterable[_Found]]) -> list[_Found]:
    """A listing, asked for again where a hub is busy; of other storage, and of one that is silent, that is not here."""
    for pause in PAUSES if hub_path(path) else ():
        try:
            return list(listing())
        except RetryableError as error:
            if not is_busy(error.__cause__):
                raise
        time.sleep(pause)
    return list(listing())


def _unique_names(files: list[SourceFile]) -> list[SourceFile]:
    """Files of two paths may have one name: the second becomes `name#2`, in order of content, not of
    place."""
    result: list[SourceFile] = []
    for _, same in groupby(files, key=lambda f: f.name):
        first, *others = same
        result.append(first)
        result += [replace(file, name=f"{file.name}#{n}") for n, file in enumerate(others, 2)]
    return result


def _expand(
    source_name: str,
    read: Format | None,
    pattern: str,
    declared: str | None,
    languages: Collection[str] | None,
    options: Mapping[str, Any],
    commits: MutableMapping[str, str],
) -> Iterator[_Found]:
    """The files one path of the recipe stands for."""
    try:
        fs, path = open_filesystem(pinned(pattern, commits), options)
    except RetryableError as error:
        raise RetryableError(f"source `{source_name}`: cannot list {error.message}") from error.__cause__
    except RecipeError as error:
        raise RecipeError(f"source `{source_name}`: {error.message}", hint=error.hint) from error
    try:
        root, matched, chosen = _match(fs, path, hub=hub_path(pattern) is not None)
    except FileNotFoundError:
        root, matched, chosen = _root(path), {}, False
    except RecipeError as error:
        raise RecipeError(f"source `{source_name}`: {error.message}", hint=error.hint) from error
    except PermissionError as error:
        raise RecipeError(f"source `{source_name}`: cannot list `{pattern}`: {error}") from error
    except Exception as error:  # storage libraries raise their own kinds
        if told := refused(error, pattern):
            raise RecipeError(f"source `{source_name}`: {told.message}", hint=told.hint) from error
        raise RetryableError(f"source `{source_name}`: cannot list `{pattern}`: {error}") from error
    language = _language_pattern(path)
    any_known = False
    for file, info in sorted(matched.items()):
        name = file[len(root) :].lstrip("/")
        kind = _kind(file, read, chosen=chosen)
        if info["type"] != "file" or kind is None or (_hidden(name) and file != path):
            continue
        any_known = True
        code = _code(source_name, file, language, languages) if language else declared
        if code is not None or not language:
            yield _Found(fs, file, info, name, *kind, code)
    if not any_known:
        raise _nothing(source_name, read, pattern, fs, root, list(matched))


def _match(fs: FileSystem, path: str, *, hub: bool) -> tuple[str, dict[str, Mapping[str, Any]], bool]:
    """(fixed part, path -> info, whether the files were named one by one or by a glob and not by their
    folder)."""
    there = None if "{language}" in path else _info(fs, path, hub=hub)
    if there is not None:  # first as it stands: names may hold `[` or `*`
        if there["type"] == "directory":
            return path, dict(fs.find(path, detail=True)), False
        return path.rpartition("/")[0], {path: there}, True
    matched = fs.glob(path.replace("{language}", "*"), detail=True)
    folders = [folder for folder, info in matched.items() if info["type"] == "directory"]
    if folders and len(folders) == len(matched):  # `lake/{language}` stands for what is below each
        below = {file: info for folder in folders for file, info in fs.find(folder, detail=True).items()}
        return _root(path), below, False
    return _root(path), matched, True


def _info(fs: FileSystem, path: str, *, hub: bool) -> Mapping[str, Any] | None:
    """What is at a path; None where nothing is. A hub's `exists` also says no where the hub was too busy to look."""
    if not hub and not fs.exists(path):
        return None
    try:
        info: Mapping[str, Any] = fs.info(path)
    except FileNotFoundError:
        return None
    return info


def _root(path: str) -> str:
    """The folder before the first component that is not fixed."""
    magic = re.search(r"[*?\[]|\{language\}", path)
    return (path[: magic.start()] if magic else path).rpartition("/")[0]


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _kind(path: str, read: Format | None, *, chosen: bool) -> tuple[Format, Compression] | None:
    """Format and compression by the file's name; None where it is not to be read. A file that was chosen by
    its name is read as the recipe says whatever its suffix."""
    by_name = next(((form, packed) for suffix, form, packed in SUFFIXES if path.lower().endswith(suffix)), None)
    if read is None or (by_name is not None and by_name[0] == read):
        return by_name
    if not chosen:
        return None
    packed: Compression = "gz" if path.endswith(".gz") else "zst" if path.endswith(".zst") else None
    return read, packed


def _language_pattern(path: str) -> re.Pattern[str] | None:
    """A pattern whose group is the component that `{language}` stands for."""
    if "{language}" not in path:
        return None
    before, _, after = path.partition("{language}")
    return re.compile(f"{_glob_regex(before)}([^/]+?){_glob_regex(after)}(?:/.*)?$")


def _glob_regex(glob: str) -> str:
    parts = re.split(r"(\*\*/?|\*|\?|\[[^]]*\]|\{language\})", glob)
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]", "{language}": "[^/]+?"}
    return "".join(meaning.get(p, p.replace("[!", "[^") if p.startswith("[") else re.escape(p)) for p in parts)


def _code(source_name: str, file: str, pattern: re.Pattern[str], languages: Collection[str] | None) -> str | None:
    """The language a path declares; None where it is not wanted."""
    found = pattern.match(file)
    assert found is not None, f"{file} was listed but does not match {pattern.pattern}"
    label = found.group(1)
    try:
        code = language_codes.canonical(label).code
    except RecipeError as error:
        if languages is not None:
            return None
        raise RecipeError(
            f"source `{source_name}`: `{file}` stands for the unknown language `{label}`", hint=error.hint
        ) from error
    return code if languages is None or code in languages else None


def _nothing(
    source_name: str, read: Format | None, pattern: str, fs: Any, root: str, matched: Sequence[str]
) -> RecipeError:
    """The error for a path that stands for no file: what was looked for and what is there."""
    suffixes = ", ".join(suffix for suffix, form, packed in SUFFIXES if read in (None, form) and not packed)
    if not matched:
        try:
            matched = fs.ls(root, detail=False)
        except Exception:  # the folder itself is missing or forbidden: said as such
            matched = []
    there = sorted(path.rstrip("/").rpartition("/")[2] for path in matched)
    shown = ", ".join(f"`{name}`" for name in there[:10]) + (f" and {len(there) - 10} more" if there[10:] else "")
    return RecipeError(
        f"source `{source_name}`: no file to read at `{pattern}`; looked for {suffixes}, plain or compressed",
        hint=f"`{root}` holds {shown}" if there else f"there is nothing at `{root}`",
    )


def _cached_digest(item: _Found, uri: str, cache: Cache | None, *, verify: bool) -> str:
    size, version = int(item.info["size"]), content_version(item.info)
    key = f"{'all' if verify else 'ends'} {size} {version} {without_commit(uri)}"
    if cache is not None and version and key in cache:
        return str(cache[key])
    try:
        known = {"size": size} if is_pinned(uri) else {}
        digest = _digest(item.fs, item.path, size, known, verify=verify)
    except RecipeError:
        raise
    except Exception as error:  # storage libraries raise their own kinds
        raise (refused(error, uri) or RetryableError(f"cannot read `{uri}`: {error}")) from error
    if cache is not None and version:
        cache[key] = digest
    return digest


def _digest(fs: FileSystem, path: str, size: int, known: Mapping[str, int], *, verify: bool) -> str:
    """SHA-256 of the size and the file's first and last MiB, or of the size and all of it."""
    digest = hashlib.sha256(f"{size}\n".encode())
    with fs.open(path, "rb", block_size=DIGEST_END_BYTES, **known) as handle:
        if verify:
            while piece := handle.read(DIGEST_END_BYTES):
                digest.update(piece)
        else:
            digest.update(handle.read(DIGEST_END_BYTES))
            if size > DIGEST_END_BYTES:
                handle.seek(max(DIGEST_END_BYTES, size - DIGEST_END_BYTES))
                digest.update(handle.read(DIGEST_END_BYTES))
    return digest.hexdigest()


def split(
    files: Iterable[SourceFile],
    shard_bytes: int,
    *,
    storage_options: Mapping[str, Any] | None = None,
    cache: Cache | None = None,
) -> list[Slice]:
    """Cut files into slices of up to `shard_bytes`, in the order given.

    Plain JSONL by byte ranges, Parquet by runs of row groups (uncompressed bytes; only footers are read, kept
    in `cache`), text files in runs, everything else one slice a file.
    """
    files = list(files)
    with ThreadPoolExecutor(STORAGE_THREADS) as pool:
        pieces = pool.map(lambda f: _split_file(f, shard_bytes, storage_options or {}, cache), files)
        slices = [piece for file_pieces in pieces for piece in file_pieces]
    texts = [file for file in files if file.format == "text"]
    return slices + _text_slices(texts, shard_bytes, TEXT_CUT_MODULUS)


def _split_file(file: SourceFile, shard_bytes: int, options: Mapping[str, Any], cache: Cache | None) -> list[Slice]:
    if file.format == "text":
        return []
    if file.format == "parquet":
        return _parquet_slices(file, shard_bytes, options, cache)
    if file.format == "jsonl" and file.compression is None:
        starts = range(0, max(1, file.size), shard_bytes)
        ends = [min(start + shard_bytes, file.size) for start in starts]
        return [Slice((file,), start, end, end - start) for start, end in zip(starts, ends, strict=True)]
    return [Slice((file,), 0, 1, file.size)]


def _parquet_slices(file: SourceFile, shard_bytes: int, options: Mapping[str, Any], cache: Cache | None) -> list[Slice]:
    key = f"groups {file.digest}"
    if cache is not None and key in cache:
        groups = [(int(plain), int(stored)) for plain, stored in cache[key]]
    else:
        groups = parquet.row_groups(file, options)
        if cache is not None and groups:  # a footer that cannot be read now may be read later
            cache[key] = groups
    slices: list[Slice] = []
    start = plain_bytes = stored_bytes = 0
    for group, (plain, stored) in enumerate(groups):
        if group > start and plain_bytes + plain > shard_bytes:
            slices.append(Slice((file,), start, group, stored_bytes))
            start, plain_bytes, stored_bytes = group, 0, 0
        plain_bytes += plain
        stored_bytes += stored
    # Without row groups (empty, or no readable footer) one slice remains, whose reading tells which.
    return [*slices, Slice((file,), start, len(groups), stored_bytes)]


def _text_slices(files: Sequence[SourceFile], shard_bytes: int, modulus: int) -> list[Slice]:
    """Runs of files cut where a name's hash divides by `modulus`, and, only where a run is still too large,
    at more names: one more file changes the run it falls into and no other."""
    runs: list[list[SourceFile]] = []
    for file in files:
        if not runs or xxhash.xxh3_64_intdigest(file.name.encode()) % modulus == 0:
            runs.append([])
        runs[-1].append(file)
    slices: list[Slice] = []
    for run in runs:
        size = sum(file.size for file in run)
        if size > shard_bytes and modulus > 1:
            slices += _text_slices(run, shard_bytes, modulus // 4)
        else:
            slices.append(Slice(tuple(run), 0, len(run), size))
    return slices
