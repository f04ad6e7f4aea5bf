"""Text in no language: what is made up, and that the model we ship takes none of it for a language of ours."""

import random
import sysconfig
from pathlib import Path

import pytest

from marco_data.languages import LANGUAGES, from_label
from marco_data.languages.evaluate import Answer, answers, snippets
from marco_data.languages.no_language import _MODULES, KINDS, is_held_out
from marco_data.languages.prepare import prepare


def rejected(said: list[Answer]) -> float:
    return 1 - sum(answer.kept for answer in said) / len(said)


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_depends_on_chance_alone(kind):
    made = [[KINDS[kind](random.Random(seed), False) for seed in range(50)] for _ in range(2)]
    assert made[0] == made[1]
    assert len(set(made[0])) > 45
    assert all(prepare(line) for line in made[0])


def test_modules_are_held_out_and_others_are_not():
    assert 0 < sum(map(is_held_out, _MODULES)) < len(_MODULES) / 4


@pytest.mark.parametrize("kind", KINDS)
def test_a_label_of_no_language_is_none_of_ours(kind):
    assert from_label(f"__label__{kind}") == kind
    assert kind not in LANGUAGES


@pytest.mark.parametrize("kind", KINDS)
def test_text_in_no_language_that_training_did_not_see_is_rejected(kind):
    chance = random.Random(f"test/{kind}")
    said = answers((kind, KINDS[kind](chance, True)) for _ in range(1000))
    # Wanted: 0.99. Measured of noise: 0.985, tables of codes and hands by turns are the worst, `docs/language-id.md`.
    assert rejected(said) >= (0.98 if kind == "zxx_Noise" else 0.99)


def keyboard(chance: random.Random) -> str:
    """Fingers that drum: a few keys of one row again and again, now and then one of another."""
    keys = chance.sample(chance.choice(("asdfghjkl", "qwertyuiop", "zxcvbnm")), 4)
    return " ".join("".join(chance.choices(keys, k=chance.randint(4, 11))) for _ in range(chance.randint(3, 8)))


def test_drumming_on_a_keyboard_is_rejected():
    chance = random.Random("drumming")
    assert rejected(answers(("zxx_Noise", keyboard(chance)) for _ in range(1000))) >= 0.99


def columns(chance: random.Random) -> str:
    """Fingers that run down a column of keys, which training never made."""
    runs = ("qaz", "wsx", "edc", "rfv", "tgb", "yhn", "ujm")
    return " ".join("".join(chance.choices(runs, k=chance.randint(1, 3))) for _ in range(chance.randint(3, 8)))


def test_columns_of_keys_which_training_never_made_are_rejected():
    chance = random.Random("columns")
    assert rejected(answers(("zxx_Noise", columns(chance)) for _ in range(1000))) >= 0.99


def test_the_standard_library_that_training_never_reads_is_rejected():
    folder = Path(sysconfig.get_path("stdlib"))
    unread = [
        p for p in sorted(folder.glob("*.py")) if p.stem not in _MODULES and p.stem not in ("this", "antigravity")
    ]
    lines = [("zxx_Code", text) for path in unread for text in snippets(path)]
    assert len(lines) > 1000
    assert rejected(answers(lines)) >= 0.99


def test_comments_are_no_part_of_a_snippet(tmp_path):
    code = (
        '"""A docstring.\n\nOf two lines."""\n# a comment\nx = 1\n\n/* in C\n too */ y = 2; // kept\n#include <a.h>\n'
    )
    (tmp_path / "a.py").write_text(code, encoding="utf-8")
    assert snippets(tmp_path / "a.py") == snippets(tmp_path) == ["x = 1\n y = 2; // kept\n#include <a.h>"]


def test_what_a_module_of_cmake_says_of_itself_is_no_part_of_a_snippet(tmp_path):
    code = "\n#[=====[.rst:\nFindThis\n--------\n\nFinds this, if it is there.\n#]=====]\n\nset(A b) # kept\n"
    (tmp_path / "a.cmake").write_text(code, encoding="utf-8")
    assert snippets(tmp_path / "a.cmake") == ["set(A b) # kept"]
