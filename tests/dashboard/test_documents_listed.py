"""Lists of documents and single ones: what is opened for them, and that nothing is passed over that was asked for."""

from contextlib import AbstractContextManager
from typing import Any

import pytest
from hostile_corpus import build_hostile
from small_corpus import Built

from marco_data.dashboard import documents, html
from marco_data.dashboard.data import Root
from marco_data.dashboard.documents import Filter
from marco_data.storage import Storage
from marco_data.why import Answer, Lookup, Place

NEAR = "dedup/near"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("listed")
    return build_hostile(folder, folder / "out")


@pytest.fixture(scope="module")
def lookup(built: Built) -> Lookup:
    return Lookup(built.stage, built.storage)


@pytest.fixture(scope="module")
def answers(lookup: Lookup) -> dict[Place, Answer]:
    places = [Place(n, row) for n, (_, file, _) in enumerate(lookup.measured) for row in range(file.rows)]
    return {place: lookup.answer(place) for place in places}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The Parquet files that are opened."""
    paths: list[str] = []
    parquet = Storage.parquet

    def recorded(storage: Storage, path: str) -> AbstractContextManager[Any]:
        paths.append(path)
        return parquet(storage, path)

    monkeypatch.setattr(Storage, "parquet", recorded)
    return paths


def files_of(lookup: Lookup, number: int) -> set[str]:
    return {lookup.measured[number][1].path, lookup.decided[number].data[0].path, lookup.sidecars[number].path}


@pytest.mark.parametrize("verdict", ["", *html.VERDICTS])
def test_a_list_has_all_that_its_filter_lets_through(lookup: Lookup, answers: dict[Place, Answer], verdict: str):
    reasons = {answer.reason for answer in answers.values() if answer.reason}
    reasons |= {reason.partition("/")[0] for reason in reasons} | {"no_such", "mix", "remove"}
    assert NEAR in reasons
    for reason in ("", *sorted(reasons)):
        for language in ("", "eng_Latn", "fra_Latn"):
            expected = {
                place
                for place, a in answers.items()
                if verdict in ("", a.verdict)
                and (not reason or f"{a.reason or ''}/".startswith(f"{reason}/"))
                and language in ("", a.language)
            }
            found = list(documents.places(lookup, Filter(language=language, verdict=verdict, reason=reason)))
            assert (len(found), set(found)) == (len(expected), expected), (reason, language)


def test_only_shards_are_opened_that_have_a_listed_document(
    lookup: Lookup, answers: dict[Place, Answer], opened: list[str]
):
    having: dict[str, set[int]] = {}
    for place, answer in answers.items():
        if answer.reason and not answer.reason.startswith("mix/"):
            having.setdefault(answer.reason, set()).add(place.shard)
    assert len(having) > 1
    assert 0 < len(having[NEAR]) < len(lookup.measured)
    for reason, numbers in having.items():
        opened.clear()
        assert documents.listed(lookup, Filter(reason=reason))
        assert opened
        assert set(opened) <= set.union(*(files_of(lookup, number) for number in numbers)), reason


def test_a_document_that_a_list_links_to_is_known_by_its_id_alone(
    built: Built, lookup: Lookup, answers: dict[Place, Answer], opened: list[str]
):
    place, answer = next((place, answer) for place, answer in answers.items() if answer.reason == NEAR)
    view = Root(built.storage).view({"id": answer.id, "at": f"{place.shard}.{place.row}"})
    assert view.lookup is not None
    assert view.lookup.sidecars
    opened.clear()
    assert html.hinted(view, answer.id) == [place]
    assert html.hinted(view, "another") == []
    assert set(opened) == {lookup.sidecars[place.shard].path}
