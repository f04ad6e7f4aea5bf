"""Cebuano made up: a function of chance, of words that Filipino has not, and what the model learnt from it."""

import random

from marco_data.languages import cebuano
from marco_data.languages.evaluate import answers
from marco_data.languages.train import MADE_UP, visayan


def test_sentences_depend_on_chance_alone_and_differ():
    made = [cebuano.text(random.Random(1), 50) for _ in range(2)]
    assert made[0] == made[1]
    assert len(set(made[0].split("\n"))) > 45
    assert "{" not in made[0]


def test_an_ending_takes_an_h_after_a_vowel():
    words = set(cebuano.text(random.Random(2), 10_000).split())
    assert {"basahon", "paliton"} <= words
    assert not {"basaon", "palithon"} & words


def test_training_has_the_declaration_and_so_many_made_up_documents():
    found = [d for d in visayan() if d.label == "ceb_Latn"]
    assert sum(d.id.startswith("cebuano-") for d in found) == MADE_UP
    assert sum(d.id.startswith("udhr-") for d in found) == 90


def test_cebuano_as_people_write_it_is_not_taken_for_filipino():
    # Written for this test.
    lines = [
        "Miabot ang mga bata sa balay sa ilang apohan niadtong Domingo.",
        "Wala ko kahibalo kung asa siya mipuyo karon.",
        "Daghan kaayong tawo ang nagtigom sa plasa aron motan-aw sa sayaw.",
        "Gipalit niya ang isda sa merkado kagahapon sa buntag.",
    ]
    assert not any(answer.kept for answer in answers(("ceb_Latn", line) for line in lines))
