"""The blend says what a trainer draws, and its sums are those of the shards and of the request."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marco_data.blend import BlendHeader, BlendShard, blend_json, blend_text, next_starts
from marco_data.errors import RecipeError, ShardError
from marco_data.mix import HASH_END, Interval, Key, MixturePart, allocate

HEADER = BlendHeader(
    family="sample",
    stage=2,
    fingerprint="0123456789ab",
    tokenizer={"hash": "ab", "end_of_document": "<|endoftext|>", "id": 7, "vocab_size": 8},
    waivers=("web/broken.jsonl.gz",),
)
MIXTURE = {
    "web": MixturePart(weight=3, languages={"ben_Beng": 1, "zho_Hans": 1}, max_epochs=2),
    "code": MixturePart(weight=1, max_epochs=1),
}
AVAILABLE = {("ben_Beng", "web"): 100, ("zho_Hans", "web"): 1000, ("eng_Latn", "code"): 60}
INTERVALS = {
    ("ben_Beng", "web"): Interval(5, HASH_END, 10, 100),
    ("zho_Hans", "web"): Interval(0, 2**63, 40, 395),
    ("eng_Latn", "code"): Interval(0, HASH_END, 6, 60),
}
SHARDS = [
    BlendShard("tokens/web/zho_Hans/crawl-00001", "web", "zho_Hans", "crawl", 15, 95),
    BlendShard("tokens/web/zho_Hans/crawl-00000", "web", "zho_Hans", "crawl", 25, 300),
    BlendShard("tokens/web/ben_Beng/crawl-00000", "web", "ben_Beng", "crawl", 10, 100),
    BlendShard("tokens/code/eng_Latn/code-00000", "code", "eng_Latn", "code", 6, 60),
]
STARTS = {("ben_Beng", "web"): 5, ("tha_Thai", "old"): 2**60}


def blend(shards: list[BlendShard] = SHARDS, intervals: dict[Key, Interval] = INTERVALS) -> dict[str, object]:
    return blend_json(HEADER, allocate(AVAILABLE, MIXTURE, 800), intervals, shards, starts=STARTS)


def test_a_blend_says_what_is_drawn_and_what_was_asked_for():
    made = blend()
    assert (made["budget"], made["tokens"], made["drawn"]) == (800, 555, 655)
    assert [(e["prefix"], e["tokens"], e["epochs"], e["weight"] * 655) for e in made["entries"]] == [
        ("tokens/code/eng_Latn/code-00000", 60, 1, pytest.approx(60)),
        ("tokens/web/ben_Beng/crawl-00000", 100, 2, pytest.approx(200)),
        ("tokens/web/zho_Hans/crawl-00000", 300, 1, pytest.approx(300)),
        ("tokens/web/zho_Hans/crawl-00001", 95, 1, pytest.approx(95)),
    ]
    parts = {row["part"]: row for row in made["parts"]}
    assert (parts["web"]["requested_weight"], parts["web"]["weight"]) == (0.75, 595 / 655)
    assert (parts["web"]["requested"], parts["web"]["drawn"], parts["web"]["shortfall"]) == (600, 595, 5)
    assert (parts["code"]["requested"], parts["code"]["drawn"], parts["code"]["shortfall"]) == (200, 60, 140)
    shares = {row["language"]: row for row in made["shares"]}
    assert shares["ben_Beng"]["shortfall"] == shares["zho_Hans"]["spilled"] == 100
    assert (shares["zho_Hans"]["target"], shares["zho_Hans"]["drawn"], shares["zho_Hans"]["documents"]) == (
        400,
        395,
        40,
    )
    assert shares["ben_Beng"]["epochs"] == 2


def test_a_blend_survives_json_and_tells_the_next_stage_where_to_start():
    made = blend()
    read = json.loads(json.dumps(made))
    assert read == made
    assert next_starts(read) == {
        ("ben_Beng", "web"): HASH_END,
        ("zho_Hans", "web"): 2**63,
        ("eng_Latn", "code"): HASH_END,
        ("tha_Thai", "old"): 2**60,  # a part that this stage did not have
    }
    assert read["starts"] == {
        "old": {"tha_Thai": "1000000000000000"},
        "web": {"ben_Beng": "0000000000000005"},
    }
    assert (read["family"], read["stage"], read["fingerprint"]) == ("sample", 2, "0123456789ab")
    assert (read["tokenizer"]["id"], read["waivers"]) == (7, ["web/broken.jsonl.gz"])


def test_the_order_in_which_shards_were_finished_does_not_show():
    assert blend(SHARDS[::-1]) == blend()


def test_the_text_is_what_megatron_parses():
    made = blend()
    words = blend_text(made).split()
    assert blend_text(made).count("\n") == 1
    assert words[1::2] == [entry["prefix"] for entry in made["entries"]]
    assert [float(word) for word in words[0::2]] == [entry["weight"] for entry in made["entries"]]
    assert sum(float(word) for word in words[0::2]) == pytest.approx(1)


SIZES = st.tuples(st.sampled_from("abc"), st.integers(1, 10**9), st.integers(1, 10))


@given(st.lists(SIZES, min_size=1, max_size=20), st.booleans())
def test_entries_sum_to_the_blend(sizes, budgeted):
    shards = [BlendShard(f"s{i}", name, "eng_Latn", name, 1, tokens, n) for i, (name, tokens, n) in enumerate(sizes)]
    available = {("eng_Latn", name): sum(t * n for other, t, n in sizes if other == name) for name, _, _ in sizes}
    intervals = {}
    for key, seen in available.items():
        tokens = [t for name, t, _ in sizes if name == key[1]]
        intervals[key] = Interval(0, HASH_END, len(tokens), sum(tokens), seen - sum(tokens))
    mixture = {name: MixturePart(weight=1, max_epochs=100) for name in "abc"}
    budget = 90 * max(available.values()) if budgeted else None
    made = blend_json(HEADER, allocate(available, mixture, budget), intervals, shards, starts={})
    assert sum(entry["weight"] for entry in made["entries"]) == pytest.approx(1)
    assert sum(entry["tokens"] for entry in made["entries"]) == made["tokens"]
    assert sum(e["tokens"] * e["epochs"] for e in made["entries"]) == pytest.approx(made["drawn"])
    assert sum(row["drawn"] + row["shortfall"] for row in made["parts"]) == (budget or sum(available.values()))


def test_documents_that_count_for_more_are_drawn_so_much_more_often():
    key = ("eng_Latn", "web")
    shards = [BlendShard("s0", "web", "eng_Latn", "web", 3, 30), BlendShard("s1", "web", "eng_Latn", "web", 1, 10, 4)]
    allocation = allocate({key: 70}, {"web": MixturePart(weight=1, max_epochs=2)}, 105)
    made = blend_json(HEADER, allocation, {key: Interval(0, HASH_END, 4, 40, 30)}, shards, starts={})
    assert (made["tokens"], made["drawn"]) == (40, 105)
    assert [(e["repeats"], e["epochs"], e["weight"]) for e in made["entries"]] == [
        (1, 1.5, pytest.approx(45 / 105)),
        (4, 6.0, pytest.approx(60 / 105)),
    ]


def test_shards_that_do_not_hold_what_was_selected_are_refused():
    with pytest.raises(ShardError, match=r"zho_Hans in `web` hold \[25, 300, 300\].*\[40, 395, 395\]"):
        blend(SHARDS[1:])
    with pytest.raises(ShardError, match=r"eng_Latn in `code` hold \[6, 60, 60\].*\[0, 0, 0\]"):
        blend(intervals={key: interval for key, interval in INTERVALS.items() if key[1] == "web"})


def test_more_prefixes_than_megatron_numbers_are_refused():
    many = [BlendShard(f"s{i}", "code", "eng_Latn", "code", 1, 1) for i in range(30_000)]
    with pytest.raises(RecipeError, match="30000 prefixes") as error:
        blend(many)
    assert "larger" in error.value.hint


def test_a_prefix_with_a_space_is_refused():
    with pytest.raises(RecipeError, match="cannot name `my code/s0`"):
        blend([BlendShard("my code/s0", "code", "eng_Latn", "code", 6, 60)])
