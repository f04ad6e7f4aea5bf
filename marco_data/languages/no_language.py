"""Text in no language, made up: program code, filler Latin, random and mashed keys. What a model learns to refuse.

In: a generator of chance. Out: lines for the labels `zxx_Code`, `zxx_Filler` and `zxx_Noise` (`zxx` is ISO 639-2's "no
linguistic content"). Code is the standard library of the Python that runs, without comments and strings of more than
a few words, and statements of ten other languages put together by a small grammar with names from that library. So
the lines depend on the Python version, which a model's facts record. Knows nothing of models and of test files.
"""

import base64
import io
import keyword
import random
import sysconfig
import tokenize
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

import xxhash

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

_LATIN = """
a ac accumsan ad adipiscing aenean aliqua aliquam aliquet amet ante anim aptent arcu at auctor augue aute bibendum
blandit cillum class commodo condimentum congue consectetur consequat conubia convallis cras cubilia culpa cupidatat
curabitur curae cursus dapibus deserunt diam dictum dictumst dignissim dis do dolor dolore donec dui duis ea efficitur
egestas eget eiusmod eleifend elementum elit enim erat eros esse est et etiam eu euismod ex excepteur exercitation
facilisi facilisis fames faucibus felis fermentum feugiat finibus fringilla fugiat fusce gravida habitant habitasse hac
hendrerit himenaeos iaculis id imperdiet in incididunt inceptos integer interdum ipsum irure justo labore laboris
laborum lacinia lacus laoreet lectus leo libero ligula litora lobortis lorem luctus maecenas magna magnis malesuada
massa mattis mauris maximus metus mi minim molestie mollis mollit montes morbi mus nam nascetur natoque nec neque netus
nibh nisi nisl non nostra nostrud nulla nullam nunc occaecat odio officia orci ornare parturient pariatur pellentesque
penatibus per pharetra phasellus placerat platea porta porttitor posuere potenti praesent pretium primis proident proin
pulvinar purus quam qui quis quisque reprehenderit rhoncus ridiculus risus rutrum sagittis sapien scelerisque sed sem
semper senectus sint sit sociosqu sodales sollicitudin sunt suscipit suspendisse taciti tellus tempor tempus tincidunt
torquent tortor tristique turpis ullamco ullamcorper ultrices ultricies urna ut varius vehicula vel velit veniam
venenatis vestibulum vitae vivamus viverra volutpat voluptate vulputate
""".split()
_OPENING = "lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore et dolore"

_ROWS = (
    "qwertyuiop", "asdfghjkl", "zxcvbnm", "asdf", "jkl", "qwer", "йцукенгшщзхъ", "фывапролджэ", "ячсмитьбю",
    "ςερτυθιοπ", "ασδφγηξκλ", "ضصثقفغعهخحجد", "شسيبلاتنمكط", "ㅂㅈㄷㄱㅅㅛㅕㅑ", "ㅁㄴㅇㄹㅎㅗㅓㅏㅣ",
    "azertyuiop", "qsdfghjklm", "qwertzuiop",
)  # fmt: skip

# {n} a name, {T} a type's name, {w} a lower-case word, {k} a small number, {s} a short quoted string.
_STATEMENTS = (
    # JavaScript, TypeScript
    "const {n} = require({s});", "import {{ {n}, {T} }} from {s};", "let {n} = {n}.{n}({n}, {k});",
    "export default function {n}({n}, {n}) {{ return {n}.{n}; }}", "var {n} = document.getElementById({s});",
    "if ({n} === null || typeof {n} !== 'undefined') {{ {n}.push({n}); }}", "{n}.forEach(({n}) => {{ {n}({n}); }});",
    "async function {n}() {{ const {n} = await fetch({s}); return {n}.json(); }}", "console.log({n}, {s});",
    "interface {T} {{ {n}: string; {n}?: number; {n}: boolean[]; }}", "$('#{w}').addClass({s}).on('click', {n});",
    # C, C++
    "#include <{w}.h>", "#define {T}_MAX {k}", "static int {n}(const char *{n}, size_t {n})",
    "for (int i = 0; i < {n}; i++) {{ {n}[i] = {n}->{n}; }}", "struct {n} {{ uint32_t {n}; void *{n}; }};",
    "if (!{n}) {{ free({n}); return NULL; }}", "std::vector<{T}> {n}; {n}.push_back(std::move({n}));",
    "template <typename T> class {T} : public {T} {{ virtual void {n}() override; }};",
    'printf("%d %s\\n", {n}, {n});', "extern void {n}({T} *{n});", "memcpy({n}, {n}, sizeof({n}));",
    # Java, C#, Kotlin
    "public static void main(String[] args) {{ {T} {n} = new {T}(); }}", "private final Map<String, {T}> {n};",
    "@Override public boolean {n}({T} {n}) throws IOException {{ return this.{n}.equals({n}); }}",
    "import java.util.{T};", "System.out.println({n}.{n}());", "public class {T} extends {T} implements {T} {{",
    "using System.Collections.Generic; namespace {T} {{ internal class {T} {{ }} }}",
    "fun {n}({n}: {T}): List<{T}> = {n}.map {{ it.{n} }}", "try {{ {n}(); }} catch ({T}Exception e) {{ throw e; }}",
    # Go, Rust
    "func ({w} *{T}) {T}({n} string) error {{ if err != nil {{ return err }} }}", "package {w}", "go func() {{ {n} <- {n} }}()",
    "{n}, err := {w}.{T}({n})", "pub fn {n}(&self, {n}: &str) -> Result<{T}, {T}> {{ Ok({n}?) }}", "use std::{w}::{T};",
    "let mut {n} = Vec::new(); match {n} {{ Some({n}) => {n}.unwrap(), None => panic!({s}) }}",
    "impl {T} for {T} {{ fn {n}(&mut self) {{}} }}", "#[derive(Debug, Clone)] pub struct {T} {{ {n}: Option<{T}> }}",
    # PHP, Ruby, shell, SQL
    "<?php echo ${n}['{w}']; ?>", "public function {n}(array ${n}) {{ return $this->{n}(${n}); }}", "$sql = ${w}->query({s});",
    "def {n}({n}) @{n} = {n}.map {{ |x| x.{n} }} end", "attr_accessor :{w}, :{w}", "require '{w}'", "end.each do |{w}| puts {w} end",
    "sudo apt-get install -y {w} && cd {w} && make", "export {T}=${{{T}:-{w}}}", "grep -rn {s} ./{w} | awk '{{print $1}}'",
    "if [ -z \"${n}\" ]; then echo {s}; exit 1; fi", "docker run --rm -it -v {w}:/{w} {w}:{k}", "git commit -m {s}",
    "for {w} in *.{w}; do mv $f ${{f%.*}}; done", "SELECT {n}, COUNT(*) FROM {n} WHERE {n} = {k} GROUP BY {n};",
    "INSERT INTO {n} ({n}, {n}) VALUES ({s}, {k});", "CREATE TABLE {n} (id INTEGER PRIMARY KEY, {n} VARCHAR({k}) NOT NULL);",
    "ALTER TABLE {n} ADD COLUMN {n} BIGINT DEFAULT NULL;", "LEFT JOIN {n} ON {n}.id = {n}.{n} ORDER BY {n} DESC LIMIT {k}",
    # HTML, CSS, JSON, configuration, logs
    '<div class="{w} {w}" id="{w}"><span style="color:#fff">', '<a href="/{w}/{w}.html" rel="nofollow"><img src="{w}.png"/></a>',
    '<script type="text/javascript" src="js/{w}.min.js"></script>', '<input type="hidden" name="{w}" value="{k}">',
    "</td></tr></tbody></table></div>", '<meta name="viewport" content="width=device-width, initial-scale=1">',
    ".{w} {{ margin: 0 auto; padding: {k}px; background-color: #eee; display: flex; }}", "#{w} .{w}:hover {{ border: none; }}",
    "@media (max-width: {k}px) {{ .{w} {{ width: 100%; float: left; }} }}", '{{"{n}": {k}, "{n}": null, "{n}": [true, false]}}',
    "{n}: {n}", "[{w}.{w}] {n} = {k}", "at {w}.{w}.{T}.{n}({T}.java:{k})", "0x{k} mov eax, ebx; push rbp; jmp {w}",
    "\\begin{{{w}}} \\frac{{{w}}}{{{k}}} \\end{{{w}}}", "window.dataLayer = window.dataLayer || []; function gtag(){{}}",
)  # fmt: skip


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
    lines, line = [], []
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
    if chance.random() < 0.5:
        start, count = chance.randrange(len(lines) - 5), chance.randint(1, 5)
        return " ".join(lines[start : start + count])
    return " ".join(_statement(chance.choice(_STATEMENTS), names, chance) for _ in range(chance.randint(1, 4)))


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
        "k": lambda: str(chance.randint(0, 999)),
        "s": lambda: repr(chance.choice(names)),
    }
    # One format call a slot, so that each gets a value of its own.
    parts = form.replace("{{", "\0").replace("}}", "\1")
    for key, value in slots.items():
        while f"{{{key}}}" in parts:
            parts = parts.replace(f"{{{key}}}", value(), 1)
    return parts.replace("\0", "{").replace("\1", "}")


def filler(chance: random.Random, held_out: bool = False) -> str:
    """Four to twenty words of the Latin that stands where text will stand."""
    words = chance.choices(_LATIN, k=chance.randint(4, 20))
    if chance.random() < 0.3:
        words = [*_OPENING.split()[: chance.randint(2, 17)], *words]
    return " ".join(words)


def noise(chance: random.Random, held_out: bool = False) -> str:
    """Base64, base32, hexadecimal, random letters or fingers on a keyboard."""
    kind = chance.choice(("base64", "base64", "words64", "hex", "letters", "keys", "keys", "mash"))
    if kind == "base64":
        return base64.b64encode(chance.randbytes(chance.randint(15, 150))).decode()
    if kind == "words64":
        encode = chance.choice((base64.b64encode, base64.b64encode, base64.b32encode))
        return encode(code(chance, held_out)[:150].encode()).decode()
    if kind == "hex":
        return " ".join(chance.randbytes(chance.choice((4, 8, 16, 20, 32))).hex() for _ in range(chance.randint(1, 5)))
    if kind == "letters":
        letters = "abcdefghijklmnopqrstuvwxyz"
        return " ".join("".join(chance.choices(letters, k=chance.randint(2, 12))) for _ in range(chance.randint(2, 10)))
    rows = chance.sample(_ROWS[:6] if chance.random() < 0.7 else _ROWS, 2)
    return " ".join(_keys(rows, kind == "mash", chance) for _ in range(chance.randint(1, 10)))


def _keys(rows: list[str], mash: bool, chance: random.Random) -> str:
    """Keys beside one another in turn, some twice; or any keys of the two rows."""
    row = chance.choice(rows)
    if mash:
        return "".join(chance.choices("".join(rows), k=chance.randint(3, 14)))
    start, size, repeat = chance.randrange(len(row)), chance.randint(2, 10), chance.randint(1, 2)
    run = "".join(row[(start + i) % len(row)] for i in range(size))
    return (run[::-1] if chance.random() < 0.2 else run) * repeat


KINDS: Mapping[str, Callable[[random.Random, bool], str]] = MappingProxyType(
    {"zxx_Code": code, "zxx_Filler": filler, "zxx_Noise": noise}
)
"""Label -> the maker of a line: `maker(chance, held_out)`."""
