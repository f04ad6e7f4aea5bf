"""The benchmark of the HTTP path compares like with like, and its figures are of what was done."""

import asyncio

from benchmarks.generation.http import Compared, Go, bare, compare, ours, serving


def test_both_clients_ask_the_same_and_get_the_same():
    prompts = [f"question {i}" for i in range(30)]
    with serving(delay=0.01, words=20) as url:
        answers = asyncio.run(ours(url, prompts, 8))
        assert answers == asyncio.run(bare(url, prompts, 8)) == ["word " * 20] * 30


def test_a_pair_is_measured_each_way():
    compared = compare(pairs=2, requests=40, concurrency=8, delay=0.02, words=20)
    assert len(compared.pairs) == 2
    assert all(go.seconds >= 0.02 * 40 / 8 for pair in compared.pairs for go in pair)


def test_figures_are_medians_of_pairs():
    pairs = tuple((Go(ours, 0.2), Go(theirs, 0.1)) for ours, theirs in ((2.0, 1.0), (1.0, 1.0), (1.0, 2.0)))
    figures = Compared(100, pairs).figures()
    assert (figures["ratio_lowest"], figures["ratio_median"], figures["ratio_highest"]) == (0.5, 1.0, 2.0)
    assert (figures["ours_per_second"], figures["bare_per_second"]) == (100.0, 100.0)
    assert (figures["ours_processor_seconds_per_1000"], figures["bare_processor_seconds_per_1000"]) == (2.0, 1.0)
