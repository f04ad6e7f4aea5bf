"""A multiple-choice question apart from any model: what makes one well formed, how it is shown, where its key stands.

In: question, options, key. Out: the reason against it, its text with a language's own labels, orders of its options,
and positions for the keys of many: balanced, and the same for the same salt. Knows no prompt and asks nothing.
"""

import csv
import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import regex

from marco_data.generation.wording import Wording
from marco_data.languages import Language

LETTERS = "ABCD"

TOPICS = (
    *("Belief", "Commerce", "Education", "Entertainment", "Finance", "Food", "Government", "Habitat", "Health"),
    *("Heritage", "Language", "Pets", "Science", "Social", "Travel", "Work"),
)
"""The 16 topics of CulturAll, so that what is generated can be laid beside what is measured."""

COUNTRIES = frozenset(
    regex.findall(
        r"[A-Z]{2}",
        """
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA
    CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB
    GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG
    KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV
    MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB
    SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US
    UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW""",
    )
)
"""ISO 3166-1 alpha-2, the 249 that are assigned."""

_LETTER = regex.compile(r"^\s*\(?[A-D][).:]\s+")
_NAMED = regex.compile(r"\([A-D]\)|(?<![\p{L}\p{N}])[A-D]\)|[\"“«「'‘][A-D][\"”»」'’]")


@dataclass(frozen=True)
class Item:
    """A question with four options, of which `options[key]` is right."""

    question: str
    options: tuple[str, ...]
    key: int
    explanation: str

    @property
    def longest_is_key(self) -> bool:
        """Whether the right option is longer than every other: what a guesser goes by."""
        return all(len(self.options[self.key]) > len(o) for i, o in enumerate(self.options) if i != self.key)


def unlettered(options: Sequence[str]) -> tuple[str, ...]:
    """The options without letters in front, where all have them."""
    bare = [option.strip() for option in options]
    if bare and all(_LETTER.match(option) for option in bare):
        bare = [_LETTER.sub("", option).strip() for option in bare]
    return tuple(bare)


def malformed(item: Item, language: Language) -> tuple[str, float | None] | None:
    """The reason against an item as it stands, and the figure; None for a well-formed one."""
    distinct = {_same(option) for option in item.options} - {""}
    if len(item.options) != len(LETTERS) or len(distinct) != len(LETTERS):
        return "options_not_distinct", float(len(distinct))
    if any(all_or_none(option, language) for option in item.options):
        return "all_or_none", None
    if _NAMED.search(item.explanation):  # the letters change
        return "names_a_letter", None
    return None


def all_or_none(option: str, language: Language) -> bool:
    """Whether it says `all of the above`, `none of these` or the like, in its language or in English, and little else.

    Little: "the village where all of these are woven" is an option like any other.
    """
    plain = _same(option)
    phrases = (*_phrases()[language.code], *_phrases()["eng_Latn"])
    return any(phrase in plain and len(phrase) >= 0.4 * len(plain) for phrase in phrases)


@cache
def _phrases() -> dict[str, tuple[str, ...]]:
    text = resources.files(__package__).joinpath("all_or_none.csv").read_text(encoding="utf-8")
    return {row["code"]: tuple(map(_same, row["phrases"].split("|"))) for row in csv.DictReader(text.splitlines())}


def _same(option: str) -> str:
    """What two options have in common that are one: case, width, blanks, quotation marks and a final point aside."""
    plain = " ".join(unicodedata.normalize("NFKC", option).casefold().split())
    return plain.strip(" .。।။።؟،,;:!\"'“”„«»「」『』‘’()")


def shown(options: Sequence[str]) -> str:
    """The options with their letters, a line each."""
    return "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=True))


def orders(item: Item, count: int) -> list[tuple[int, ...]]:
    """`count` orders to ask the item in: of each four, every option stands once at every place."""
    start = _shuffled(range(len(LETTERS)), "orders", item.question, *item.options)
    return [(*start[n % 4 :], *start[: n % 4]) for n in range(count)]


def positions(count: int, salt: str) -> list[int]:
    """A place for the key of each of `count` items: of each four items in a row, one a place, in a drawn order.

    Whole fours are balanced exactly; what begins a four is drawn from `salt`, so that many short lists are, too.
    """
    fours = (_shuffled(range(len(LETTERS)), "positions", salt, str(four)) for four in range(-(-count // len(LETTERS))))
    return [place for four in fours for place in four][:count]


def placed(item: Item, place: int, salt: str) -> Item:
    """The item with its key at `place` and the other options in a drawn order."""
    others = [n for n in range(len(item.options)) if n != item.key]
    order = list(_shuffled(others, "others", salt, item.question, *item.options))
    order.insert(place, item.key)
    return Item(item.question, tuple(item.options[n] for n in order), place, item.explanation)


def rendered(item: Item, words: Wording) -> str:
    """The text of the item as a document, with labels in its language."""
    return "\n".join(
        (
            words.labelled(words.question, item.question),
            words.labelled(words.options, "").rstrip(),
            shown(item.options),
            words.labelled(words.answer, f"{LETTERS[item.key]}. {item.options[item.key]}"),
            words.labelled(words.explanation, item.explanation),
        )
    )


def _shuffled(values: Sequence[int], *salt: str) -> tuple[int, ...]:
    """The values in an order drawn from `salt`."""
    digest = hashlib.sha256("\x1f".join(salt).encode("utf-8", "surrogatepass")).digest()
    return tuple(sorted(values, key=lambda value: (digest[4 * value : 4 * value + 4], value)))
