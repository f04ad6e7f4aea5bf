"""Cebuano made up: words and affixes put together by a small grammar, to teach a model what Cebuano looks like.

Of Cebuano there is only its Declaration of Human Rights to train on, and Filipino, which is ours, looks like it: `ang`,
`mga`, `sa` are words of both. In: a generator of chance. Out: sentences that mean nothing, made of words of Cebuano's
(`cebuano_words.txt`, written here, nobody's text: a class and its words a line) and of its forms of the verb. Knows
nothing of models and of test files.
"""

import random
from collections.abc import Mapping
from functools import cache
from pathlib import Path

# {noun} and the like are classes of words; {gi} is a verb that something is done to, {mi} one that somebody does, {mo}
# what will be or is wanted, {pag} the doing of it.
_SENTENCES = (
    "ang {noun} {gi} sa mga {noun}", "{gi} sa {noun} ang {own} {noun}", "{mi} ang mga {noun} ug ang {noun} sa {noun}",
    "adunay {number} ka {noun} nga {mi} sa {noun}", "wala {pronoun} {mo} kay {adjective} ang {noun}",
    "dili {pronoun} {mo} sa {noun} kung {mo} ang {noun}", "gikan sa {noun} ngadto sa {noun}",
    "matod ni {name} nga {gi} na ang {noun}", "si {name} usa ka {adjective} nga {noun} sa {name}",
    "kini nga {noun} mao ang labing {adjective} sa tibuok {noun}",
    "aron {mo} ang {noun} kinahanglan nga {mo} {pronoun}",
    "unsa ang {own} {noun} niining {noun}", "asa {pronoun} {mo} {time}", "ngano nga {mi} {pronoun} {time}",
    "daghang mga {noun} ang {mi} {time}", "human sa {pag} sa {noun} {mi} {pronoun} sa {noun}",
    "tungod sa {noun} {gi} ang {number} ka {noun}", "niadtong {name} {gi} niya ang {noun}",
    "ang {pag} sa {noun} usa sa mga {noun} sa {noun}", "naa sa {noun} ang {own} {adjective} nga {noun}",
    "{mi} usab {pronoun} og {adjective} nga {noun}", "walay {noun} nga {mi} didto sa {noun}",
    "gipahibalo sa {noun} nga {mo} ang {noun} {time}", "ang {adjective} nga {noun} sa {name} {gi} {time}",
    "mahimo nga {mo} {pronoun} uban sa {own} mga {noun}", "kinsa ang {noun} nga {mi} niini",
    "bisan asa nga {noun} {mi} gayod {pronoun}", "{time} {mi} ang {noun} didto sa {noun} ni {name}",
    "ilado kini sa {own} {adjective} nga {noun} ug {noun}", "{pronoun} ang {mi} sa {noun} diin {gi} ang {noun}",
    "mas {adjective} kini kay sa {noun}", "kadtong {noun} nga {gi} ni {name}", "{mo} unta {pronoun} niana nga {noun}",
)  # fmt: skip

_FORMS = {
    "gi": ("gi{r}", "gi{r}", "gi{r}an", "gipa{r}", "gika{r}", "{r}on", "{r}an", "gipang{r}", "na{r}an", "i{r}"),
    "mi": ("mi{r}", "mi{r}", "ni{r}", "nag{r}", "nag{r}", "naga{r}", "naka{r}", "nakig{r}", "nangin{r}", "na{r}",
           "mipa{r}"),
    "mo": ("mo{r}", "mo{r}", "mu{r}", "mag{r}", "maka{r}", "makig{r}", "ma{r}", "mopa{r}", "pa{r}on"),
    "pag": ("pag{r}", "pag{r}", "pagka{r}", "pagpa{r}", "pang{r}", "pagpang{r}", "ka{r}an", "tig{r}"),
}  # fmt: skip


@cache
def _words() -> Mapping[str, tuple[str, ...]]:
    rows = Path(__file__).with_name("cebuano_words.txt").read_text(encoding="utf-8").splitlines()
    return {row.split()[0]: tuple(row.split()[1:]) for row in rows}


def _word(kind: str, chance: random.Random) -> str:
    if kind not in _FORMS:
        return chance.choice(_words()[kind])
    root, form = chance.choice(_words()["root"]), chance.choice(_FORMS[kind])
    if root[-1] in "aeiou":  # basa, basahon; but palit, paliton
        form = form.replace("}on", "}hon").replace("}an", "}han")
    return form.format(r=root)


def sentence(chance: random.Random) -> str:
    """One to three clauses."""
    clauses = []
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3))):
        words = chance.choice(_SENTENCES).split()
        clauses.append(" ".join(_word(w[1:-1], chance) if w[0] == "{" else w for w in words))
    text = clauses[0]
    for clause in clauses[1:]:
        text += f" {chance.choice(_words()['link'])} {clause}"
    return text


def text(chance: random.Random, sentences: int = 40) -> str:
    """So many sentences, one a line."""
    return "\n".join(sentence(chance) for _ in range(sentences))
