"""Whether two answers are the same, and whether a translation kept a problem's numbers: by value, not by letter.

In: an English text and another one in any language. Values are exact fractions; digits of any script, both decimal
signs, groups of three or as in India, fractions, mixed numbers, powers of ten, LaTeX and words of scale (`8万`,
`5 millones`) count as what they mean. English is read strictly (1,500 is 1500), other text by every reading it may
have (1.500 is 1500 or 1.5). Money and per-cent signs and words beside a number are not compared, units of science are.
Solves nothing: x+1 and 1+x differ.
"""

import operator
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import regex

from marco_data.generation import numerals

_SCALES: dict[int, str] = {
    10**2: "hundred 百 백 सौ শত শো سو ร้อย వంద నూరు நூறு",
    10**3: (
        "thousand 千 천 mil mila mille milli tausend тысяч тис хиляд хиљад тисяч ألف آلاف الف هزار ہزار हजार हज़ार হাজার "
        "พัน ພັນ ពាន់ ထောင် bin min duizend tusen tusind tuhat tuhan tūkst tisoč tisíc tysi ezer ribu ewu nghìn ngàn elfu "
        "libo χιλιάδες χίλια אלף אלפים мың వేల వెయ్యి ஆயிரம் હજાર ਹਜ਼ਾਰ ሺህ mii"
    ),
    10**4: "万 萬 만 หมื่น ໝື່ນ ម៉ឺន သောင်း",
    10**5: "lakh लाख লাখ লক্ষ لاکھ แสน ແສນ សែន သိန်း లక్షల లక్ష லட்சம் લાખ ਲੱਖ",
    10**6: (
        "million millón millones milh miljoen miljon milij milió milj млн мільйон милион مليون ملايين ล้าน ລ້ານ លាន သန်း "
        "triệu juta milyon εκατομμύρ מיליון"
    ),
    10**7: "crore करोड़ करोड কোটি کروڑ కోట్ల కోటి கோடி કરોડ ਕਰੋੜ",
    10**8: "亿 億 억",
    10**9: "billion milliard miliard миллиард мільярд مليار miliar",
}
_SCALE_OF = {word: scale for scale, words in _SCALES.items() for word in words.casefold().split()}
_SCALE = "|".join(sorted(map(regex.escape, _SCALE_OF), key=len, reverse=True))

_ENGLISH = r"\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+"
_ANY = r"\d+(?:[.,'_ ]\d+)*|(?<!\d)[.,]\d+"
_TOKEN = r"""
    (?P<whole>\d+)\ +(?P<above>\d+)/(?P<below>\d+)(?![\d/])
  | \(?(?P<top>-?(?:{number}))\)?\ ?/\ ?\(?(?P<bottom>{number})\)?
  | (?P<number>{number})(?:\ ?\*\ ?10\^?\(?(?P<power>-?\d+)\)?)?
"""
_TAIL = rf"(?:[ -]?(?P<scale>{_SCALE}))?"
_READ_ENGLISH = regex.compile(
    rf"(?P<minus>(?<![\w)])-\ ?)?(?:{_TOKEN.format(number=_ENGLISH)}){_TAIL}", regex.X | regex.I
)
_READ_ANY = regex.compile(rf"(?P<minus>(?<![\w)])-\ ?)?(?:{_TOKEN.format(number=_ANY)}){_TAIL}", regex.X | regex.I)

_LONGEST = 80  # characters; what is longer is a code, not a quantity

_UNIT = regex.compile(
    r"\d\s*((?:da|[pnµμmcdhkMGT])?(?:mol|Hz|Pa|eV|bar|cal|[mgsAKNJWCVTHΩLl])(?:\^-?\d)?|°[CFK]?|min|h|atm)"
    r"((?:[/*·]\(?[A-Za-zΩ]{1,4}(?:\^-?\d)?\)?)*)(?![\w^])"
)
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_SIGNS = str.maketrans("−–‐‑×·⋅÷⁄∕٫٬’٪\u00a0\u202f\u2009µ", "----***///.,'%   μ")
_LATEX: tuple[tuple[str, str], ...] = (
    (r"\\(?:boxed|fbox|text|textbf|mathrm|mathbf|mathit|operatorname|mbox|displaystyle)(?![a-zA-Z])", ""),
    (r"\\(?:left|right|big|Big)(?![a-zA-Z])|\\[,;:!]|\\quad|\{,\}(?!\d)", " "),
    (r"\{,\}", ","),
    (r"\\[dt]?frac\s*(\d)\s*(\d)", r" \1/\2"),
    (r"(\d)\s*\\[dt]?frac\{(\d+)\}\{(\d+)\}", r"\1 \2/\3"),
    (r"\\(?:times|cdot|ast)(?![a-zA-Z])", "*"),
    (r"\\div(?![a-zA-Z])", "/"),
    (r"\^\{?\\circ\}?|\\degree", "°"),
    (r"\\pi(?![a-zA-Z])", "π"),
    (r"\\sqrt", "√"),
    (r"\\([%$#&_])", r"\1"),
    (r"\\[()\[\]]|\$|\\ |~", " "),
)  # fmt: skip
_FRACTION = regex.compile(r"\\[dt]?frac\{((?:[^{}]|\{[^{}]*\})*)\}\{((?:[^{}]|\{[^{}]*\})*)\}")


@dataclass(frozen=True)
class _Value:
    readings: frozenset[Fraction]
    parts: tuple[Fraction, ...] = ()  # of 2,3 that may be a list


def same_answer(key: str, answer: str) -> bool:
    """Whether `answer`, in any language, is the English `key`: the same values in order, or the same formula."""
    left, right = _without_name(_normal(key)), _without_name(_normal(answer))
    if not left or not right:
        return False
    if _bare(left) == _bare(right):
        return True
    units, others = _units(left), _units(right)
    if units and others and units != others:
        return False
    if _is_formula(left):
        return False
    wanted = [value.readings for value in _values(left, english=True)]
    readings = [list(_values(right, english=english)) for english in (False, True)]
    if not any(readings):  # 十二
        readings = [[_Value(frozenset(map(Fraction, numerals.han_values(right))))]]
    return bool(wanted) and any(_match(wanted, reading) for reading in readings)


def comparable(key: str) -> bool:
    """Whether an answer can be compared at all: one in words only (`It increases`) cannot."""
    normal = _without_name(_normal(key))
    return bool(regex.search(r"\d", normal)) or _is_formula(normal)


def lost_numbers(source: str, translation: str) -> list[str]:
    """The numbers in digits of an English text that its translation does not have in any writing.

    One is not looked for, because `1-hour classes` are une heure; an hour after noon may be written of 24.
    """
    plain = _normal(translation)
    have = set(map(Fraction, numerals.han_values(plain)))
    for value in _values(plain, english=False):
        have |= value.readings | set(value.parts)
    have |= {Fraction(number) for number in regex.findall(rf"\d{{1,{_LONGEST}}}", plain)}
    normal = regex.sub(r"(?<=\d):00", "", _normal(source))
    have |= {hour - 12 for hour in have if hour > 12} if regex.search(r"\bp\.?m\b", normal, regex.I) else set()
    return [
        found.group().strip()
        for found, value in _read(normal, english=True)
        if not (value.readings & (have | {1}) or (len(value.parts) > 1 and have.issuperset(value.parts)))
    ]


def _normal(text: str) -> str:
    """`text` in ASCII digits and signs, without what LaTeX adds to it."""
    text = regex.sub("([⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+)", lambda m: "^" + m[1].translate(_SUPERSCRIPTS), text)
    text = regex.sub(r"(?<=\d)(?=[¼½¾⅐-⅞])", " ", text)
    text = unicodedata.normalize("NFKC", text.translate(_SIGNS)).translate(_SIGNS)
    text = "".join(str(unicodedata.decimal(sign)) if sign.isdecimal() else sign for sign in text)
    for pattern, replacement in _LATEX:
        text = regex.sub(pattern, replacement, text)
    while (inner := _FRACTION.sub(r"(\1)/(\2)", text)) != text:
        text = inner
    text = text.replace("{", "").replace("}", "")
    return str(regex.sub(r"\s+", " ", text)).strip(" .。।။።؟?!;,*`\"'")


def _without_name(normal: str) -> str:
    """Without `x =` in front: what is asked for is the value."""
    return str(regex.sub(r"^[^\W\d]\w{0,2} ?= ?", "", normal))


def _bare(normal: str) -> str:
    return str(regex.sub(r"[\s*()\[\]]", "", normal)).casefold()


def _is_formula(normal: str) -> bool:
    """Whether letters stand for quantities in it: `2x+3`, `(B)`, `√2`, but not `5 eggs` or `5 m/s`."""
    rest = (
        regex.sub(r"\d\s*\K(?:[^\W\d_]+\^?-?\d*[/*]?)*[^\W\d_]+(?:\^-?\d)?$", "", normal) if _units(normal) else normal
    )
    rest = regex.sub(r"(?<![\w+*/^=-])[aA] (?=[a-z]{2})", "", rest)  # the article
    return bool(regex.search(r"(?<![^\W\d_])[A-Za-zα-ω√](?![^\W\d_])", rest))


def _units(normal: str) -> list[str]:
    return [found[1] + found[2] for found in _UNIT.finditer(normal)]


def _values(normal: str, english: bool) -> Iterator[_Value]:
    for _, value in _read(normal, english):
        yield value


def _read(normal: str, english: bool) -> Iterator[tuple["regex.Match[str]", _Value]]:
    for found in (_READ_ENGLISH if english else _READ_ANY).finditer(normal):
        if (value := _value(found, english)) is not None:
            yield found, value


def _value(found: "regex.Match[str]", english: bool) -> _Value | None:
    parts: tuple[Fraction, ...] = ()
    if len(found.group()) > _LONGEST:
        return None
    if found["whole"]:
        above, below = int(found["above"]), int(found["below"])
        parts = (Fraction(found["whole"]), Fraction(above), Fraction(below))
        readings = {int(found["whole"]) + Fraction(above, below)} if below else set()
    elif found["top"]:
        tops, bottoms = _one(found["top"], english), _one(found["bottom"], english)
        parts = (abs(min(tops)), min(bottoms))
        readings = {top / bottom for top in tops for bottom in bottoms if bottom}
    else:
        readings = _one(found["number"], english)
        parts = () if english else tuple(map(Fraction, regex.findall(r"\d+", found["number"])))
        if found["power"] and len(found["power"]) < 4:
            readings = {reading * Fraction(10) ** int(found["power"]) for reading in readings}
    if not readings:
        return None
    if found["scale"]:
        readings |= {reading * _SCALE_OF[found["scale"].casefold()] for reading in readings}
    return _Value(frozenset(-reading if found["minus"] else reading for reading in readings), parts)


def _one(written: str, english: bool) -> set[Fraction]:
    if english:
        return {Fraction(written.replace(",", ""))}
    sign = -1 if written.startswith("-") else 1
    if written[0] in ".,":
        return {Fraction("0." + written[1:])}
    number = next(numerals.numbers(written))
    values = set(map(Fraction, number.values)) or set(map(Fraction, regex.findall(r"\d+", written)[:1]))
    return {sign * value for value in values}


def _match(wanted: Sequence[frozenset[Fraction]], given: Sequence[_Value]) -> bool:
    """Whether the values are those wanted, in order; a `2,3` may be one number or two."""
    matched = {0}  # how many of `wanted` the values so far may stand for
    for value in given:
        one = {at + 1 for at in matched if at < len(wanted) and wanted[at] & value.readings}
        count = len(value.parts)
        whole = (at for at in matched if count > 1 and at + count <= len(wanted))
        matched = one | {at + count for at in whole if all(map(operator.contains, wanted[at:], value.parts))}
    return len(wanted) in matched
