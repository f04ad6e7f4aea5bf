"""The proof's own arithmetic: what is held out, what noise is, how losses are counted and how arms are compared."""

import json
import math
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("warcio")

from benchmarks.proof import compare
from benchmarks.proof.corpora import drawn_languages, write_stage
from benchmarks.proof.noise import kind_of, planted
from benchmarks.proof.plot import Bars, Curve, Spread, bars, curves
from benchmarks.proof.texts import HELD_OUT, TOKENIZER, TRAINING, Text, use_of, visible_text, without_twins
from marco_data.tokenizer import Tokenizer, train_tokenizer
from marco_data.train.blend import load_blend

SENTENCES = [f"The keeper of lighthouse number {n} writes down the weather of each morning" for n in range(40)]


def test_what_is_held_out_is_decided_by_the_address_and_is_a_small_part():
    uses = Counter(use_of(f"https://example.org/{number}") for number in range(10_000))
    assert use_of("https://example.org/1") == use_of("https://example.org/1")
    assert 650 < uses[HELD_OUT] < 950
    assert 650 < uses[TOKENIZER] < 950
    assert uses[TRAINING] > 8_000


def test_a_held_out_document_that_training_has_in_other_clothes_is_left_out():
    twin = Text("twin", ". ".join(SENTENCES[:20]), "eng_Latn")
    other = Text("other", ". ".join(SENTENCES[20:]), "eng_Latn")
    trained_on = "Menu\n" + ".\n".join(sentence.upper() for sentence in SENTENCES[:10])
    assert without_twins([twin, other], [trained_on]) == [other]


def test_a_document_of_short_sentences_cannot_be_told_from_its_twins_and_is_left_out():
    assert without_twins([Text("short", "Yes. No. Perhaps.", "eng_Latn")], []) == []


def test_visible_text_has_menus_and_no_scripts():
    page = "<html><style>p{}</style><nav>Home</nav><script>if(a<b){x()}</script><p>One &amp; two</p></html>"
    assert visible_text(page) == "Home\nOne & two"


@pytest.fixture(scope="module")
def clean() -> list[Text]:
    return [Text(f"doc-{n}", f"Grüße aus {n}. " + ". ".join(SENTENCES[:9]), "deu_Latn") for n in range(400)]


def test_noise_is_a_function_of_the_documents_and_loses_none(clean):
    crawl, kinds = planted(clean, [Text("o", "Прывітанне", "")])
    assert (crawl, kinds) == planted(clean, [Text("o", "Прывітанне", "")])
    assert sum(kinds.values()) == len(crawl)
    assert len({document.id for document in crawl}) == len(crawl)
    originals = {document.id.partition("/")[0] for document in crawl if document.language}
    assert originals == {document.id for document in clean}


def test_every_kind_of_noise_is_there_and_mojibake_can_be_undone(clean):
    crawl, kinds = planted(clean, [Text("o", "Прывітанне", "")])
    assert {"mojibake", "boilerplate", "repeated", "copy", "near copy", "other language", "no language"} < set(kinds)
    assert Counter(kind_of(document.id) for document in crawl) == kinds
    texts = {document.id: document.text for document in clean}
    for document in crawl:
        name, _, rest = document.id.partition("/")
        if rest.startswith("mojibake"):
            assert document.text != texts[name]
            assert document.text.encode("latin-1").decode() == texts[name]


def test_a_stage_of_raw_documents_is_one_that_the_trainer_reads(tmp_path: Path):
    train_tokenizer(SENTENCES, 300, tmp_path / "tokenizer.json")
    tokenizer = Tokenizer.load(tmp_path / "tokenizer.json")
    documents = {("texts", "eng_Latn"): [Text(f"{n}", text, "eng_Latn") for n, text in enumerate(SENTENCES)]}
    folder = write_stage(tmp_path / "raw", documents, {("texts", "eng_Latn"): 500, ("web", "eng_Latn"): 0}, tokenizer)
    (entry,) = load_blend(folder, verify=True).entries
    assert entry.drawn == 500
    assert entry.tokens >= 500
    assert drawn_languages(folder) == {"eng_Latn": 500}


def result(seed: int, first: float, last: float) -> dict:
    points = [
        {"tokens": tokens, "languages": {"a": {"nats": nats * 10, "tokens": 10, "bytes": 20}}}
        for tokens, nats in ((0, first), (1_000_000, last))
    ]
    return {"seed": seed, "held_out": points}


def nats(said) -> float:
    return said["a"]["nats"] / said["a"]["tokens"]


def test_differences_are_of_the_same_seed_and_say_who_wins_how_often():
    ours = [result(0, 8, 5.0), result(1, 8, 5.5), result(2, 8, 6.1), result(3, 8, 1.0)]
    other = [result(2, 8, 6.0), result(0, 8, 5.2), result(1, 8, 5.6)]
    found = compare.paired(ours, other, nats)
    assert found is not None
    assert (found.wins, found.seeds) == (2, 3)
    assert found.spread.least == pytest.approx(-0.2)
    assert found.spread.most == pytest.approx(0.1)
    assert compare.paired(ours, [], nats) is None


def test_curves_and_ends_have_the_mean_and_the_extremes_of_the_seeds():
    found = [result(0, 8, 5.0), result(1, 8, 6.0)]
    assert compare.over_tokens(found, nats) == [(0.0, Spread(8, 8, 8)), (1.0, Spread(5.5, 5, 6))]
    assert compare.at_the_end(found, compare.of_language("a")) == Spread(5.5, 5, 6)


def test_pictures_are_xml_with_a_band_for_each_curve_and_a_bar_for_each_figure():
    points = [(0.0, Spread(2, 1, 3)), (1.0, Spread(1, 1, 1))]
    drawn = ElementTree.fromstring(curves("a < b", "x", "y", [Curve("one", points), Curve("two", points)]))
    space = "{http://www.w3.org/2000/svg}"
    assert len(drawn.findall(f"{space}polygon")) == 2
    drawn = ElementTree.fromstring(bars("t", "y", ["g", "h"], [Bars("one", [Spread(-2, -3, 1), None])]))
    assert len(drawn.findall(f"{space}rect")) == 3  # the ground, the key and one bar


@pytest.mark.slow
def test_held_out_loss_counts_every_token_once_and_by_its_own_language():
    torch = pytest.importorskip("torch")
    from benchmarks.proof.held_out import bits_per_byte, losses, nats_per_token, windows
    from marco_data.train.config import CONFIGS
    from marco_data.train.model import CausalLM, initialize

    model, end = initialize(CausalLM(CONFIGS["tiny-moe"]), 0), 7
    draw = np.random.default_rng(0)
    documents = {
        "a": [{"bytes": 50, "ids": [*draw.integers(8, 500, length).tolist(), end]} for length in (40, 3)],
        "b": [{"bytes": 30, "ids": [*draw.integers(8, 500, 16).tolist(), end]}],
    }
    said = losses(model, documents, end, length=16, batch=2)
    assert json.loads(json.dumps(said)) == said
    assert (said["a"]["tokens"], said["b"]["tokens"]) == (45, 17)
    assert (said["a"]["bytes"], said["b"]["bytes"]) == (100, 30)
    by_hand = 0.0
    for document in documents["a"]:
        for given, wanted in windows(document["ids"], end, 16):
            logits = model.logits(torch.tensor([given])).detach()[0].double().log_softmax(-1)
            by_hand -= sum(float(logits[at, token]) for at, token in enumerate(wanted))
    assert said["a"]["nats"] == pytest.approx(by_hand, rel=1e-5)
    mean = (said["a"]["nats"] / 45 + said["b"]["nats"] / 17) / 2
    assert nats_per_token(said) == pytest.approx(mean)
    bits = (said["a"]["nats"] / 100 + said["b"]["nats"] / 30) / 2 / math.log(2)
    assert bits_per_byte(said) == pytest.approx(bits)
