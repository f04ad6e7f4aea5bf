"""Digests of contents: where a folder lies, and what does not travel with it, says nothing."""

import shutil
from pathlib import Path

from marco_data.contents import content_of


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


def test_what_is_not_there_is_itself(tmp_path: Path):
    assert content_of(tmp_path / "none") == str(tmp_path / "none")
