"""Noise over clean documents, as crawls have it: a function of each document's id.

In: clean documents, and documents of languages that nobody wants. Out: what a crawl would have made of them, and how
many documents have which noise. The rates are this benchmark's choice, made before anything was trained.
"""

import base64
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import xxhash

from benchmarks.proof.texts import Text

MOJIBAKE, BOILERPLATE, REPEATED = 0.10, 0.20, 0.05
"""Shares of the clean documents that are read in a wrong charset, have a page's menus around them, or stutter."""
COPIED, COPIES = 0.02, 20
"""One document in fifty is there twenty times more, half of them with one word in thirty replaced."""
UNWANTED, JUNK = 0.15, 0.10
"""Documents of other languages, and of no language, for each clean document."""

_MENU = (
    *("Home", "About us", "Products", "Log in", "Sign up", "My account", "Basket (0)", "Search ...", "Menu", "Close"),
    *("Share on Facebook", "Tweet", "Pin it", "Print", "Comments (0)", "Read more >>", "Previous post", "Next post"),
    *("We use cookies to improve your visit.", "Accept all", "Only necessary", "Privacy", "Terms of use", "Imprint"),
    *(
        "Subscribe to our newsletter!",
        "Related articles",
        "Most read",
        "Advertisement",
        "Copyright. All rights reserved",
    ),
)
_JUNK = "junk-"
_WARES = ("cheap", "buy", "online", "casino", "pills", "shoes", "outlet", "free", "download", "crack", "loan", "best")


def planted(clean: Sequence[Text], unwanted: Sequence[Text]) -> tuple[list[Text], Counter[str]]:
    """The crawl, in the order of its documents' hashes, and the documents with each kind of noise."""
    made: list[Text] = []
    kinds: Counter[str] = Counter()
    for document in clean:
        for kind, text in _seen_as(document):
            kinds[kind] += 1
            made.append(replace(document, id=f"{document.id}/{kind}/{kinds[kind]}", text=text))
    chance = random.Random(1)
    for document in chance.sample(list(unwanted), min(len(unwanted), round(UNWANTED * len(clean)))):
        kinds["other language"] += 1
        made.append(replace(document, language=""))
    for number in range(round(JUNK * len(clean))):
        kinds["no language"] += 1
        made.append(Text(f"{_JUNK}{number}", _junk(random.Random(number)), ""))
    return sorted(made, key=lambda text: xxhash.xxh3_64_intdigest(text.id.encode(), seed=1)), kinds


def kind_of(name: str) -> str:
    """The noise that a planted document's id tells of."""
    if name.startswith(_JUNK):
        return "no language"
    return name.split("/")[1] if "/" in name else "other language"


def _seen_as(document: Text) -> Iterator[tuple[str, str]]:
    chance = random.Random(xxhash.xxh3_64_intdigest(document.id.encode(), seed=2))
    kind = chance.random()
    text = document.text
    if kind < MOJIBAKE:
        yield "mojibake", text.encode().decode("latin-1")
    elif kind < MOJIBAKE + BOILERPLATE:
        yield "boilerplate", "\n".join([*chance.sample(_MENU, 12), text, *chance.sample(_MENU, 12)])
    elif kind < MOJIBAKE + BOILERPLATE + REPEATED:
        yield "repeated", "\n".join([text[:400]] * 6)
    else:
        yield "as it was", text
    if chance.random() < COPIED:
        words = text.split(" ")
        for number in range(COPIES):
            if number % 2:
                yield "near copy", " ".join(chance.choice(words) if chance.random() < 1 / 30 else w for w in words)
            else:
                yield "copy", text


def _junk(chance: random.Random) -> str:
    kind = chance.randrange(4)
    if kind == 0:
        return " ".join(chance.choice(_WARES) for _ in range(400))
    if kind == 1:
        return base64.b64encode(chance.randbytes(1500)).decode()
    if kind == 2:
        return json.dumps([{"id": chance.randrange(10**6), "x": chance.random(), "ok": True} for _ in range(40)])
    return "\n".join(f"var e{chance.randrange(99)}=function(t,n){{return t[{i}]&&n.push({i})}};" for i in range(40))
