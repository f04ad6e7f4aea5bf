"""The agreement as Markdown: figures on the same words, verdicts on ours, limits, segmentation, signatures."""

import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from benchmarks.agreement.figures import Measured
from benchmarks.agreement.minhash import HASHES, Bin
from benchmarks.agreement.oracle import STAND_INS
from benchmarks.agreement.segmentation import Candidate
from benchmarks.agreement.texts import HELD_OUT
from benchmarks.agreement.verdicts import Override, broken, column, judged, overrides, their_verdicts
from marco_data.dedup import DropDuplicates
from marco_data.languages.match_limits import AGREES
from marco_data.steps.apply_limits import RULES, Limits, load_limits
from marco_data.steps.measure_quality import METRICS

_PACKAGES = (
    *("datatrove", "icu4py", "datasketch", "spacy", "jieba", "sudachipy", "pythainlp", "kiwipiepy", "khmer-nltk"),
    *("laonlp", "pyidaungsu-numpy2", "pyvi", "indic-nlp-library", "rjieba", "fugashi", "nlpo3", "khmercut", "budoux"),
)
_PUNCTUATION = "punctuation and numbers are split otherwise"
_WHY = {
    "kor_Hang": "Kiwi gives morphemes, ours are words between spaces: other n-grams, other counts",
    "lao_Laoo": "documents with spaces of no width are set aside: laonlp calls each a word, half of all in such texts",
    "zho_Hans": "jieba's words are longer than ICU's: the commonest 4-gram covers other characters",
    "khm_Khmr": "khmer-nltk leaves punctuation on words (`វ៉ែល។`), by a model that no rule can follow",
    "zul_Latn": "spaCy leaves `u-2017` one word, ours are three, two of them without a letter",
    "mlt_Latn": "a stand-in: see below",
    "jpn_Jpan": "SudachiPy splits otherwise: other n-grams",
    "swe_Latn": "spaCy leaves `EU-länder` one word, ours are three",
    "heb_Hebr": "spaCy leaves a prefix and its hyphen (`מ-`) one word, ours are two",
}


def report(
    measured: Sequence[Measured],
    missing: Mapping[str, str],
    words: Sequence[Candidate],
    pairs: Sequence[Bin],
    *,
    command: str,
    real: bool,
) -> str:
    """The whole file."""
    unchanged, shipped = load_limits("fineweb2_unchanged"), load_limits()
    every = [Compared(one, unchanged[one.language], shipped[one.language]) for one in measured]
    loose = [
        row
        for one in measured
        if one.language not in STAND_INS
        for row in overrides(one, unchanged[one.language], shipped[one.language])
    ]
    text = "MARCO_TEST_DATA: all of its reference prose and web pages" if real else "the embedded sample"
    return "\n".join(
        [
            "# Agreement with datatrove: the last run",
            "",
            f"Made by `{command}`. Text: {text}. datatrove's words are those of its tokenizer of each language; "
            "Maltese has a stand-in, see below.",
            "",
            *_same_words(measured),
            *_verdicts(every),
            *_remaining(every),
            *_without_oracle(missing),
            *_strict(loose),
            *_segmentation(words),
            *_signatures(pairs),
            f"Versions: {_versions()}.",
            "",
        ]
    )


class Compared:
    """Verdicts on one language's documents: those limits were not derived on, and web pages."""

    def __init__(self, measured: Measured, unchanged: Limits, shipped: Limits) -> None:
        self.measured, self.language, self.unchanged = measured, measured.language, unchanged
        on = judged(measured, half=HELD_OUT)
        theirs, ours = broken(measured.theirs, unchanged), broken(measured.ours, shipped)
        before = broken(measured.ours, unchanged)
        overall = their_verdicts(measured, unchanged)
        self.documents = int(on.sum())
        self.dropped = [_mean(np.asarray(dropped)[on]) for dropped in (overall, before.any(1), ours.any(1))]
        self.agreed, self.agrees = (_mean(np.asarray(overall == one.any(1))[on]) for one in (before, ours))
        self.by_rule = {
            rule: _mean(theirs[on, number] == ours[on, number])
            for number, (rule, _) in enumerate(RULES)
            if self.documents
        }
        web = judged(measured, half=HELD_OUT, reference=False)
        self.web, self.web_agrees = int(web.sum()), _mean((overall == ours.any(1))[web])
        differ = web & (overall != ours.any(1))
        letters = [rule for rule, _ in RULES].index("min_alphabetic_words")
        self.web_differ = int(differ.sum())
        self.web_by_letters = int((theirs[:, letters] != ours[:, letters])[differ].sum())
        self.set_aside = int((measured.invisible & measured.reference & (measured.half == HELD_OUT)).sum())

    def spread(self, rule: str) -> tuple[float, float, float]:
        """Median and deviation of our figure less theirs, and how many lie within two deviations of the limit."""
        on = self.measured.reference & ~self.measured.invisible
        theirs, ours = (figures[on, column(rule)] for figures in (self.measured.theirs, self.measured.ours))
        difference = ours - theirs
        near = abs(theirs - getattr(self.unchanged, rule)) < 2 * difference.std()
        return float(np.median(difference)), float(difference.std()), _mean(near)


def _mean(flags: np.ndarray) -> float:
    return float(flags.mean()) if len(flags) else 1.0


def _same_words(measured: Sequence[Measured]) -> list[str]:
    documents = sum(len(one.half) for one in measured)
    compared = documents * len(METRICS)
    lines = [
        "## The same words give the same figures",
        "",
        f"datatrove's filters and ours, fed datatrove's words: {documents:,} documents, "
        f"{sum(int(one.text_bytes.sum()) for one in measured) / 1e6:.1f} MB, {len(measured)} languages, "
        f"{len(METRICS)} metrics, {compared:,} figures compared to the last bit. Different: "
        f"{sum(int((~one.twin_equal).sum()) for one in measured)} of the specification in Python, "
        f"{sum(int((~one.kernel_equal).sum()) for one in measured)} of the kernels.",
        "",
    ]
    for one in measured:
        for name, equal in (("specification", one.twin_equal), ("kernels", one.kernel_equal)):
            for metric, count in zip(METRICS, (~equal).sum(0), strict=True):
                if count:
                    lines.append(f"- `{one.language}`, `{metric}`: {count} documents differ ({name})")
    return lines


def _verdicts(every: Sequence[Compared]) -> list[str]:
    kept = [one for one in every if one.documents]
    counted = [one for one in kept if one.language not in STAND_INS]
    above = sum(one.agrees >= AGREES for one in counted)
    pages = sum(one.web for one in every)
    total = sum(one.documents for one in counted)
    return [
        "## Our words: verdicts",
        "",
        "FineWeb-2's limits on datatrove's figures (in English FineWeb's defaults, its rules on paragraphs included), "
        "beside ours on the figures of our words: FineWeb-2's unchanged, and as shipped, where a limit by which under "
        f"{AGREES:.0%} of the verdicts agreed on one half of the documents, and the shares dropped differed by a "
        "point, is replaced by what drops as many of them. "
        "Shown is the other half (by the hash of the id). Metrics not named agree on every document.",
        "",
        f"Shipped limits agree on {_weighted(counted, 'agrees'):.1%} of {total:,} documents "
        f"(FineWeb-2's unchanged: {_weighted(counted, 'agreed'):.1%}); {above} of {len(counted)} languages reach "
        f"{AGREES:.0%} ({sum(one.agreed >= AGREES for one in counted)} unchanged). Of {pages:,} web pages, none of "
        f"which limits were derived on, {sum(one.web * one.web_agrees for one in every) / max(1, pages):.1%} agree; "
        f"of the other {sum(one.web_differ for one in every)}, {sum(one.web_by_letters for one in every)} differ in "
        "the share of words with a letter: hyphens, slashes, dots and backslashes are words of ours more often.",
        "",
        "| language | documents | dropped: datatrove | ours, unchanged | ours, shipped | agree, unchanged | "
        "agree, shipped | web pages: agree | metrics, shipped |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_row(one) for one in kept),
        "",
    ]


def _weighted(every: Sequence[Compared], name: str) -> float:
    total = sum(one.documents for one in every)
    return float(sum(getattr(one, name) * one.documents for one in every) / max(1, total))


def _row(one: Compared) -> str:
    metrics = ", ".join(f"{_metric(rule)} {share:.1%}" for rule, share in one.by_rule.items() if share < 1)
    web = f"{one.web}: {one.web_agrees:.1%}" if one.web else ""
    dropped = " | ".join(f"{share:.1%}" for share in one.dropped)
    aside = f" (+ {one.set_aside} set aside)" if one.set_aside else ""
    name = one.language + (" (stand-in)" if one.language in STAND_INS else "")
    shares = f"{one.agreed:.1%} | {one.agrees:.1%}"
    return f"| {name} | {one.documents}{aside} | {dropped} | {shares} | {web} | {metrics} |"


def _metric(rule: str) -> str:
    side, _, metric = rule.partition("_")
    return f"{metric} ({side})" if metric in ("words", "word_length") else metric


def _remaining(every: Sequence[Compared]) -> list[str]:
    rows = []
    for one in every:
        for rule, share in one.by_rule.items():
            if share < AGREES:
                median, deviation, near = one.spread(rule)
                figures = f"{share:.1%} | {median:+.4f} | {deviation:.4f} | {near:.0%}"
                rows.append(
                    f"| {one.language} | {_metric(rule)} | {figures} | {_WHY.get(one.language, _PUNCTUATION)} |"
                )
    return [
        f"### What stays under {AGREES:.0%}",
        "",
        "The difference is our figure less datatrove's, all prose. Where many documents lie within two of its "
        "deviations of the limit, no limit can give both the same verdicts: the rest is a matter of which words.",
        "",
        "| language | metric | agree | median difference | deviation | documents so near the limit | why |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
    ]


def _without_oracle(missing: Mapping[str, str]) -> list[str]:
    absent = [f"`{language}` ({why})" for language, why in missing.items()]
    stand_ins = [f"`{language}`: {what}" for language, what in STAND_INS.items()]
    return [
        "### Without an oracle",
        "",
        f"datatrove's tokenizer could not be had for: {'; '.join(absent) or 'none'}. FineWeb-2's limits are used as "
        f"they are. Stood in for: {'; '.join(stand_ins)}.",
        "",
    ]


def _strict(loose: Sequence[Override]) -> list[str]:
    yaml: dict[str, dict[str, float]] = {}
    for row in loose:
        yaml.setdefault(row.language, {})[row.limit] = row.value
    return [
        "## Rules that drop much clean prose",
        "",
        "With datatrove's own words, FineWeb-2's limits drop more than a tenth of the reference prose here by one "
        "rule alone, so this is their doing and not our words'. They are reproduced by default. The looser limit "
        "drops 5 % of one half of the prose by that rule; what all rules drop is of the other half.",
        "",
        "| language | limit | datatrove drops by it | shipped | looser | all rules drop | with the looser |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {row.language} | {row.limit} | {row.theirs:.1%} | {row.shipped} | {row.value} | "
            f"{row.dropped_before:.1%} | {row.dropped:.1%} |"
            for row in loose
        ),
        "",
        "As a recipe has it:",
        "",
        "```yaml",
        "steps:",
        "  quality:",
        "    overrides:",
        *(f"      {language}: {{{_inline(values)}}}" for language, values in yaml.items()),
        "```",
        "",
    ]


def _inline(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in values.items())


def _segmentation(words: Sequence[Candidate]) -> list[str]:
    rows = [
        f"| {one.language} | {one.name} | did not run: {one.failed} | | | | |"
        if one.failed
        else f"| {one.language} | {one.name} | {one.boundaries:.3f} | {one.agrees_unmatched:.1%} | {one.agrees:.1%} | "
        f"{one.worst} | {one.megabytes_a_second:.2g} |"
        for one in words
    ]
    return [
        "## Words where there are no spaces",
        "",
        "Each candidate beside datatrove's tokenizer (jieba, SudachiPy, pythainlp's newmm, khmer-nltk, laonlp, "
        "pyidaungsu): F1 of word ends, verdicts that agree under FineWeb-2's limits as they are and under limits "
        "matched by the same rule, the metric that agrees least, and MB/s of processor time in Python, one core.",
        "",
        "| language | words | F1 | agree, unchanged | agree, matched | least | MB/s |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
    ]


def _signatures(pairs: Sequence[Bin]) -> list[str]:
    return [
        "## MinHash",
        "",
        f"{sum(one.pairs for one in pairs[-1:]):,} pairs of a document and a copy without some of its words, seeded, "
        f"{HASHES} hashes, {DropDuplicates().banding}. Errors are of the estimated similarity, ours and datasketch's "
        f"on the same shingles; in theory their deviation is sqrt(J(1 - J)/{HASHES}). A pair meets in theory with "
        "probability 1 - (1 - J^rows)^bands; how far off that is, is in standard deviations.",
        "",
        "| J | pairs | deviation: theory | ours | datasketch | mean error: theory | ours | bias | met: theory | ours | "
        "off by |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {one.least} to {one.most} | {one.pairs:,} | {one.theory:.4f} | {one.ours:.4f} | {one.datasketch:.4f} | "
            f"{one.mean_theory:.4f} | {one.mean_error:.4f} | {one.bias:+.4f} | {one.curve:.4f} | {one.met:.4f} | "
            f"{one.deviations:+.1f} |"
            for one in pairs
        ),
        "",
    ]


def _versions() -> str:
    return ", ".join(_installed(_PACKAGES))


def _installed(packages: Iterable[str]) -> Iterable[str]:
    for name in packages:
        try:
            yield f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            yield f"{name} absent"
