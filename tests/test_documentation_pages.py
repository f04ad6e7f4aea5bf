"""The tutorial and the how-tos are true: every command runs as it stands, and says what the page shows of it."""

from pathlib import Path

import pytest
from told import ROOT, fences, follow, make_folder, not_said

HOW_TOS = sorted(path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs" / "how-to").glob("*.md"))
TUTORIAL = "tutorial.md"
PAGES = [*HOW_TOS, TUTORIAL]


@pytest.mark.parametrize("page", [*HOW_TOS, pytest.param(TUTORIAL, marks=pytest.mark.slow)])
def test_a_reader_can_do_what_a_page_says_and_sees_what_it_shows(page: str, tmp_path: Path):
    text = (ROOT / "docs" / page).read_text("utf-8")
    make_folder(tmp_path)
    steps = 0
    for said in follow(text, tmp_path):
        assert said.code == 0, f"{said.script}\n{said.out[-3000:]}"
        assert not_said(said) == [], f"{said.script}\n{said.out[-6000:]}"
        steps += 1
    assert steps == len(fences(text, "sh")) > 1


@pytest.mark.parametrize("page", PAGES)
def test_a_page_shows_what_some_of_its_commands_say(page: str):
    assert fences((ROOT / "docs" / page).read_text("utf-8"), "text")
