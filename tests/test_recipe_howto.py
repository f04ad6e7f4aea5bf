"""What docs/recipes.md says to type works as it stands, in its order."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from added_languages import PROSE
from command_line import Result, marco
from small_corpus import TOKENIZER, prose

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "recipes.md").read_text("utf-8")
FENCES = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    folder = tmp_path_factory.mktemp("howto")
    shutil.copy(TOKENIZER, folder / "tokenizer.json")
    mine = [{"content": text} for code in ("swh_Latn", "eng_Latn") for text in prose(code)]
    for name, rows in (("my", mine), ("nynorsk", [{"text": text} for text in PROSE["nno_Latn"]])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    said = {}
    for kind, body in FENCES:
        if kind == "yaml" and (name := re.match(r"# (\S+\.yaml)\n", body)):
            (folder / name[1]).write_text(body, "utf-8")
        for line in body.splitlines() if kind == "sh" else ():
            program, *words = shlex.split(line)
            assert program == "marco-data"
            said[line] = marco(*words, cwd=folder)
    return said


def test_every_command_of_the_page_runs(answers: dict[str, Result]):
    assert {line: answer.err for line, answer in answers.items() if answer.code} == {}
    assert len(answers) >= 10


def test_the_line_for_editors_is_the_one_that_is_printed(answers: dict[str, Result]):
    printed = answers["marco-data recipe schema --out recipe.schema.json"].out
    assert printed in [body for kind, body in FENCES if kind == "yaml"]


def test_statuses_of_the_page_are_those_of_a_diff(answers: dict[str, Result]):
    told = answers["marco-data recipe diff sample/2 sample/3"].out
    shown = {line.partition(":")[0] for line in told.rpartition("\n\n")[2].splitlines()}
    assert shown <= set(re.findall(r"^\| `([\w -]+)` \|", TEXT, re.MULTILINE))
