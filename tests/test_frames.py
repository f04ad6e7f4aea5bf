"""Frames: what a template wrote is cut from its lines, nothing else is; and what that makes of duplicates."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from small_corpus import as_recipe, build, prose, recipe_values, write_jsonl

from marco_data.frames import Frames, cut_frames
from marco_data.languages import canonical
from marco_data.recipe import SignSection
from marco_data.step import Tools, fingerprint, run_step
from marco_data.steps.sign import Sign
from marco_data.words import texts_of

ENGLISH, CHINESE = canonical("en"), canonical("zh")
CHECK = TypeAdapter(Frames)


def cut(texts: list[str], *frames: str) -> list[str]:
    column = pa.array(["padding", *texts], pa.string()).slice(1)
    after = cut_frames(texts_of(column), CHECK.validate_python(frames))
    return [after.data[a:b].tobytes().decode() for a, b in zip(after.offsets, after.offsets[1:], strict=False)]


@pytest.mark.parametrize(
    ("text", "frames", "left"),
    [
        ("Question: Who?\nAnswer: Me.", ["Question: {}", "Answer: {}"], "\nWho?\n\nMe."),
        ("Question 12: Who?", ["Question {}: {}"], "\n12\nWho?"),
        ("  Question: Who? ", ["Question: {}"], "  \nWho? "),
        ("Here is a summary:\nIt rained.", ["Here is a summary:"], "\n\nIt rained."),
        ("It rained. I hope this helps!", ["{} I hope this helps!"], "It rained.\n"),
        ("I hope this helps!\nIt rained.", ["{} I hope this helps!"], "\n\nIt rained."),
        ("Answer:\nIt rained.", ["Answer: {}"], "\n\nIt rained."),
        ("Q: a A: b\nQ: c A: d", ["Q: {} A: {}"], "\na\nb\n\nc\nd"),
        ("Q: a A: b A: c", ["Q: {} A: {}"], "\na\nb A: c"),
        ("\u3000\u3000问题：谁？", ["问题：{}"], "\u3000\u3000\n谁？"),
        # A line that is more, less or other than a frame stays.
        ("The Question: who?", ["Question: {}"], None),
        ("question: who?", ["Question: {}"], None),
        ("Questions: who?", ["Question: {}"], None),
        ("Answering machines", ["Answer {}"], None),
        ("Here is a summary: it rained.", ["Here is a summary:"], None),
        ("Q: a\nA: b", ["Q: {} A: {}"], None),
        ("A: b Q: a", ["Q: {} A: {}"], None),
        # Nothing but frames: compared as it is.
        ("Question:\nAnswer:", ["Question: {}", "Answer: {}"], None),
        ("Answer: b", ["Answer: {}", "{}: b"], None),
        ("", ["Question: {}"], None),
    ],
)
def test_a_frame_is_cut_from_the_lines_that_it_matches(text, frames, left):
    for before, behind in (([], []), (["Question", "Que"], ["stion: x", ""])):
        assert cut([*before, text, *behind], *frames) == [*before, text if left is None else left, *behind]


def twin(text: str, frames: list[str]) -> str:
    """`cut_frames` with regular expressions, a line at a time."""
    lines, any_cut = [], False
    for line in text.split("\n"):
        inner = line.strip()
        gone = np.zeros(len(inner) + 2, bool)
        for frame in frames:
            pieces = frame.split("{}")
            first, last = (pieces[0] and " " + pieces[0]), (pieces[-1] and pieces[-1] + " ")
            edges = [first, *pieces[1:-1], last] if len(pieces) > 1 else [f" {frame} "]
            found = re.fullmatch("(.*?)".join(f"({re.escape(p)})" for p in edges), f" {inner} ", re.DOTALL)
            for group in range(1, 2 * len(edges), 2) if found else ():
                gone[found.start(group) : found.end(group)] = True
        gone = gone[1:-1]
        out = ""
        for i, character in enumerate(inner):
            out += character if not gone[i] else "\n" if not i or not gone[i - 1] else ""
        any_cut |= bool(gone.any())
        lines.append(line.replace(inner, out, 1) if inner else line)
    after = "\n".join(lines)
    return after if any_cut and not after.isspace() else text


WORDS = st.lists(st.sampled_from(["a", "b", "Q:", "A:", " ", "  ", "é", "问", "\n"]), max_size=12).map("".join)
FRAMES = st.lists(st.sampled_from(["a", "b", "Q:", " ", "问", "{}", "{}", " {} "]), min_size=1, max_size=6).map("".join)


def meaningful(frame: str) -> bool:
    return any(map(str.isalnum, frame)) and frame == frame.strip()


@settings(deadline=None, max_examples=500)
@given(st.lists(WORDS, max_size=5), st.lists(FRAMES.filter(meaningful), max_size=3))
def test_the_cut_is_its_twins(texts, frames):
    assert cut(texts, *frames) == [twin(text, frames) for text in texts]


def test_a_frame_is_in_the_spelling_of_normalized_texts():
    assert CHECK.validate_python([" Re\u0301\u00adponse : {} ", "Réponse : {}", "A: {}"]) == ("A: {}", "Réponse : {}")


@pytest.mark.parametrize(
    ("frame", "problem"), [("Q: {}\nA: {}", "one line"), ("{}", "no word"), ("- {}:", "no word"), ("", "no word")]
)
def test_a_frame_that_says_nothing_is_refused(frame, problem):
    with pytest.raises(ValidationError, match=problem):
        SignSection(frames=(frame,))


def signature(text: str, *frames: str, language=ENGLISH) -> dict:
    step = Sign(frames=frames)
    output = run_step(step, step.bind(language, Tools()), pa.record_batch({"text": pa.array([text])}))
    return {name: column[0].as_py() for name, column in output.columns.items()}


def test_frames_shape_the_signature_and_not_the_hash_of_the_text():
    framed, bare = "Question: why does bread go stale so soon?", "why does bread go stale so soon?"
    assert signature(framed, "Question: {}")["signature"] == signature(bare)["signature"]
    assert signature(framed, "Question: {}")["text_hash"] == signature(framed)["text_hash"]
    assert signature(framed, "Frage: {}") == signature(framed)
    chinese = [
        signature(text, "问题：{}", language=CHINESE) for text in ("问题：面包为什么会变硬呢", "面包为什么会变硬呢")
    ]
    assert chinese[0]["signature"] == chinese[1]["signature"]


def test_what_dedup_counts_is_what_was_signed():
    texts = texts_of(pa.array(["Answer: one two three four five six", "one two three four five six"]))
    hashes, bounds = Sign(frames=("Answer: {}",)).shingler(ENGLISH)(texts)
    assert sorted(hashes[: bounds[1]]) == sorted(hashes[bounds[1] :])


def test_frames_are_identity_and_their_absence_is_none():
    steps = [Sign(), Sign(frames=("Answer: {}",)), Sign(frames=("Question: {}",))]
    assert len({fingerprint(step.identity(Tools())) for step in steps}) == 3
    assert "frames" not in Sign().identity(Tools())["config"]
    one, other = (Sign(frames=f) for f in (("A: {}", "B: {}"), ("B: {}", "A: {}", "A: {}")))
    assert one.identity(Tools()) == other.identity(Tools())


def test_a_stage_keeps_what_differs_inside_a_template_and_drops_what_does_not(tmp_path: Path):
    template = [line for text in prose("eng_Latn") for line in text.split("\n") if line]
    answers = [line for text in prose("eng_Latn.synthetic") for line in text.split("\n") if line.startswith("Question")]
    assert len(answers) > 2
    texts = ["\n".join([*template, f"Case {n}: {answer}"]) for n, answer in enumerate(answers)]
    texts.append("\n".join([*template[1:], f"Case 0: {answers[0]}"]))
    write_jsonl(tmp_path / "in" / "a.jsonl", [{"id": str(n), "url": "", "text": t} for n, t in enumerate(texts)])
    values = recipe_values(tmp_path) | {"languages": ["eng_Latn"], "mixture": {"web": {"weight": 1}}}
    values["sources"] = {"web": values["sources"]["web"] | {"paths": [f"{tmp_path}/in/*"]}}
    steps = values["steps"]
    dropped = []
    for frames in ([], [*template, "Case {}: {}"]):
        values["steps"] = {**steps, "sign": {"frames": frames}}
        books = build(as_recipe(values), tmp_path / "out").stage.books
        dropped.append({reason: n for reason, n in books.dropped.items() if not reason.startswith("mix/")})
    assert dropped == [{"dedup/near": len(texts) - 1}, {"dedup/near": 1}]
