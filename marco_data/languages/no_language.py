"""Text in no language, made up: program code, filler Latin, random and mashed keys. What a model learns to refuse.

In: a generator of chance. Out: lines for the labels `zxx_Code`, `zxx_Filler` and `zxx_Noise` (`zxx` is ISO 639-2's "no
linguistic content"). Code is the standard library of the Python that runs, without comments and strings of more than
a few words, and statements of other languages from `code_statements.txt`, filled with names from that library. So
the lines depend on the Python version, which a model's facts record. Knows nothing of models and of test files.
"""

import base64
import io
import keyword
import random
import re
import sysconfig
import tokenize
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

import xxhash

CODE = "zxx_Code"

HELD_OUT_MODULES = 10  # one module of the standard library in so many is never a line for training

# Plain modules, of many subjects, that every build of Python has.
_MODULES = (
    "abc", "aifc", "argparse", "ast", "asyncio/base_events", "asyncio/streams", "asyncio/tasks", "base64", "bdb",
    "bisect", "bz2", "calendar", "cgi", "cmd", "codecs", "collections/__init__", "concurrent/futures/thread",
    "configparser", "contextlib", "copy", "csv", "dataclasses", "datetime", "difflib", "dis", "doctest",
    "email/header", "email/message", "email/utils", "enum", "filecmp", "fileinput", "fractions", "ftplib", "functools",
    "getopt", "gettext", "glob", "graphlib", "gzip", "hashlib", "heapq", "hmac", "html/parser", "http/client",
    "http/cookiejar", "http/server", "imaplib", "inspect", "ipaddress", "json/decoder", "json/encoder", "locale",
    "logging/__init__", "logging/handlers", "lzma", "mailbox", "mimetypes", "multiprocessing/pool",
    "multiprocessing/queues", "netrc", "numbers", "operator", "optparse", "os", "pathlib", "pdb", "pickle",
    "platform", "plistlib", "poplib", "pprint", "profile", "pstats", "pydoc", "queue", "random", "reprlib", "runpy",
    "sched", "selectors", "shelve", "shlex", "shutil", "smtplib", "socket", "socketserver", "sqlite3/dump", "ssl",
    "statistics", "string", "subprocess", "symtable", "sysconfig", "tarfile", "tempfile", "textwrap", "threading",
    "timeit", "tokenize", "traceback", "types", "typing", "unittest/case", "unittest/mock", "urllib/parse",
    "urllib/request", "uuid", "warnings", "weakref", "webbrowser", "xml/dom/minidom", "xml/etree/ElementTree",
    "xmlrpc/client", "zipfile",
)  # fmt: skip

_SLOT = re.compile(r"\{([nTwWeks])\}")

_OPENING = "lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore et dolore"

_ROWS = (
    "qwertyuiop", "asdfghjkl", "zxcvbnm", "asdf", "jkl", "qwer", "йцукенгшщзхъ", "фывапролджэ", "ячсмитьбю",
    "ςερτυθιοπ", "ασδφγηξκλ", "ضصثقفغعهخحجد", "شسيبلاتنمكط", "ㅂㅈㄷㄱㅅㅛㅕㅑ", "ㅁㄴㅇㄹㅎㅗㅓㅏㅣ",
    "azertyuiop", "qsdfghjklm", "qwertzuiop",
)  # fmt: skip

# As often as they stand here.
_NOISES = (
    "base64", "base64", "words64", "hex", "codes", "letters", "keys", "keys", "mash", "drum", "drum", "drum", "hands",
)  # fmt: skip


@cache
def _statements() -> tuple[str, ...]:
    """Forms of statements of JavaScript, C, CMake, Perl, Java, Go, shell, SQL, Tcl, HTML, LaTeX and others, one a line.

    {n} is a name, {T} a type's, {w} a lower-case word, {W} one to three of them in capitals, {e} a word of a message,
    {k} a small number, {s} a short quoted string.
    """
    return tuple(Path(__file__).with_name("code_statements.txt").read_text(encoding="utf-8").splitlines())


@cache
def _filler_words() -> tuple[str, ...]:
    return tuple(Path(__file__).with_name("filler_words.txt").read_text(encoding="utf-8").split())


@cache
def _library(held_out: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(code lines of the standard library, names in them), of the modules that are held out or of the others."""
    folder = Path(sysconfig.get_path("stdlib"))
    lines: list[str] = []
    names: set[str] = set()
    for module in _MODULES:
        path = folder / f"{module}.py"
        if is_held_out(module) != held_out or not path.is_file():
            continue
        found = _code_of(path.read_text(encoding="utf-8"), names)
        lines += found
    return tuple(lines), tuple(sorted(names))


def is_held_out(module: str) -> bool:
    return xxhash.xxh3_64_intdigest(module.encode()) % HELD_OUT_MODULES == 0


def _code_of(source: str, names: set[str]) -> list[str]:
    """The logical lines of a module as tokens with single spaces; comments and sentences in quotes left out."""
    lines: list[str] = []
    line: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NEWLINE:
            if len(line) > 3:
                lines.append(" ".join(line))
            line = []
        elif token.type == tokenize.NAME:
            line.append(token.string)
            if len(token.string) > 2 and not keyword.iskeyword(token.string) and token.string.isascii():
                names.add(token.string)
        elif token.type == tokenize.STRING:
            line.append(token.string if token.string.count(" ") < 2 else "''")
        elif token.type in (tokenize.OP, tokenize.NUMBER):
            line.append(token.string)
    return lines


def code(chance: random.Random, held_out: bool = False) -> str:
    """One to five statements of Python, or of one to four other languages' kinds."""
    lines, names = _library(held_out)
    kind = chance.random()
    if kind < 0.35:
        start, count = chance.randrange(len(lines) - 5), chance.randint(1, 5)
        return " ".join(lines[start : start + count])
    forms = [chance.choice(_statements())] * chance.randint(2, 6)  # a table, a list of names, a run of settings
    if kind < 0.8:
        # Files are of one language, and the forms of one stand together.
        start = chance.randrange(len(_statements()))
        near = _statements()[max(0, start - 9) : start + 9]
        forms = chance.choices(near, k=chance.randint(1, 5))
    return " ".join(_statement(form, names, chance) for form in forms)


def _statement(form: str, names: tuple[str, ...], chance: random.Random) -> str:
    def name() -> str:
        found = chance.choice(names).strip("_") or "x"
        if chance.random() < 0.4:  # getItemCount, as most of these languages write it
            other = chance.choice(names).strip("_")
            found = found.lower() + other.title().replace("_", "")
        return found

    slots: dict[str, Callable[[], str]] = {
        "n": name,
        "T": lambda: name().title().replace("_", ""),
        "w": lambda: chance.choice(names).strip("_").lower(),
        "W": lambda: "_".join(chance.choices(names, k=chance.choice((1, 1, 2, 3)))).upper(),
        "e": lambda: chance.choice(names).strip("_").lower().partition("_")[0],
        "k": lambda: str(chance.randint(0, 999)),
        "s": lambda: repr(chance.choice(names)),
    }
    filled = _SLOT.sub(lambda found: slots[found[1]](), form)
    return filled.replace("{{", "{").replace("}}", "}")


def filler(chance: random.Random, held_out: bool = False) -> str:
    """Four to twenty words of the Latin that stands where text will stand."""
    words = chance.choices(_filler_words(), k=chance.randint(4, 20))
    if chance.random() < 0.3:
        words = [*_OPENING.split()[: chance.randint(2, 17)], *words]
    return " ".join(words)


def noise(chance: random.Random, held_out: bool = False) -> str:
    """Base64, base32, hexadecimal, tables of codes, random letters or fingers on a keyboard."""
    kind = chance.choice(_NOISES)
    if kind == "base64":
        return base64.b64encode(chance.randbytes(chance.randint(15, 150))).decode()
    if kind == "words64":
        encode = chance.choice((base64.b64encode, base64.b64encode, base64.b32encode))
        return encode(code(chance, held_out)[:150].encode()).decode()
    if kind == "hex":
        return " ".join(chance.randbytes(chance.choice((4, 8, 16, 20, 32))).hex() for _ in range(chance.randint(1, 5)))
    if kind == "codes":
        size, suffix = chance.choice((1, 2, 2, 3)), "".join(chance.choices("abcdefghiklmnopqrstuvwxyz", k=2))
        ends = chance.choice(("", "", suffix))
        return " ".join(f"{chance.randbytes(size).hex()} {ends}" for _ in range(chance.randint(4, 30)))
    if kind == "letters":
        letters = "abcdefghijklmnopqrstuvwxyz"
        return " ".join("".join(chance.choices(letters, k=chance.randint(2, 12))) for _ in range(chance.randint(2, 10)))
    rows = chance.sample(_ROWS[:6] if chance.random() < 0.7 else _ROWS, 2)
    if kind in ("drum", "hands"):
        return _drummed(kind == "hands", chance)
    return " ".join(_keys(rows, kind == "mash", chance) for _ in range(chance.randint(1, 10)))


def _drummed(hands: bool, chance: random.Random) -> str:
    """The same two to six keys again and again: of one row, or of two rows' ends under the two hands by turns."""
    row, other = chance.sample(_ROWS[:3] if chance.random() < 0.8 else _ROWS, 2)
    left, right = chance.sample(row, min(len(row), chance.randint(2, 6))), other[-4:]

    def word() -> str:
        return "".join(chance.choice(right if hands and i % 2 else left) for i in range(chance.randint(3, 12)))

    return " ".join(word() for _ in range(chance.randint(1, 10)))


def _keys(rows: list[str], mash: bool, chance: random.Random) -> str:
    """Keys beside one another in turn, some twice; or any keys of the two rows."""
    row = chance.choice(rows)
    if mash:
        return "".join(chance.choices("".join(rows), k=chance.randint(3, 14)))
    start, size, repeat = chance.randrange(len(row)), chance.randint(2, 10), chance.randint(1, 2)
    run = "".join(row[(start + i) % len(row)] for i in range(size))
    return (run[::-1] if chance.random() < 0.2 else run) * repeat


KINDS: Mapping[str, Callable[[random.Random, bool], str]] = MappingProxyType(
    {CODE: code, "zxx_Filler": filler, "zxx_Noise": noise}
)
"""Label -> the maker of a line: `maker(chance, held_out)`."""
