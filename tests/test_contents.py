"""Digests of contents: where a folder lies, and what does not travel with it, says nothing."""

import shutil
from pathlib import Path

import pytest

from marco_data.contents import content_of
from marco_data.errors import RecipeError


def test_a_folder_counts_by_its_files_and_their_names_but_not_by_what_is_hidden(tmp_path: Path):
    one = tmp_path / "one"
    (one / "sub").mkdir(parents=True)
    (one / "sub" / "a.json").write_text("{}")
    here = content_of(one)
    shutil.copytree(one, tmp_path / "two")
    (tmp_path / "two" / ".cache").mkdir()
    (tmp_path / "two" / ".cache" / "b").write_text("b")
    assert content_of(tmp_path / "two") == here
    (one / "sub" / "a.json").rename(one / "sub" / "b.json")
    assert content_of(one) != here


def test_a_folder_that_is_linked_counts_as_what_it_leads_to(tmp_path: Path):
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "step.py").write_text("A = 1\n")
    one = tmp_path / "one"
    one.mkdir()
    (one / "shared").symlink_to(modules, target_is_directory=True)
    shutil.copytree(one, tmp_path / "two")
    before = content_of(one)
    assert content_of(tmp_path / "two") == before
    (modules / "step.py").write_text("A = 12\n")
    assert content_of(one) != before


def test_a_link_that_leads_back_is_told(tmp_path: Path):
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(RecipeError, match="does a link lead back"):
        content_of(tmp_path)


def test_what_is_not_there_is_itself(tmp_path: Path):
    assert content_of(tmp_path / "none") == str(tmp_path / "none")
