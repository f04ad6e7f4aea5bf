"""What is compared: the parts of the pass in their order, and who is in each contest.

Peers that are slow get less of each round: enough for a second or so, or the whole would take hours.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks import ours
from benchmarks.apart.contestant import Apart
from benchmarks.apart.environment import Environment
from benchmarks.contest import Contest, Contestant, Here
from benchmarks.peers import datatrove, fasttext, minhash, repair, tokenizers
from marco_data.steps.measure_quality import MeasureQuality
from marco_data.steps.normalize import Normalize
from marco_data.steps.sign import Sign

ENGLISH = "eng_Latn"
LONG = 2048
"""Bytes: language identification may read longer texts at samples."""

SHARD = 48
"""MB of all languages: less than a shard of the product, enough that a language's rows make a call worth its cost."""

OURS = partial(Here, "marco-data", "marco-data")
OUR_WORDS = "datatrove, our words"
OWN_WORDS = "datatrove, its own words (spaCy)"

# 0.4.1 wants Python 3.12.
TEXT_DEDUP = Environment("text-dedup", ("text-dedup==0.4.0",))
# aiohttp and ray it imports without saying so, and would install ray itself while it runs.
DATA_JUICER = Environment("data-juicer", ("py-data-juicer==1.6.1", "aiohttp==3.14.5", "ray==2.60.0"))
# With all it asks for it is 6 GB, for torch and CUDA, which its heuristic filters never import.
NEMO_CURATOR = Environment(
    "nemo-curator",
    (
        "ray[data,default]==2.60.0",
        "cosmos-xenna==0.2.0",
        "pandas==3.1.1",
        "pyarrow==26.0.1",
        "loguru==0.7.3",
        "regex==2026.11.15",
    ),
    alone=("nemo-curator==1.4.0",),
)


def contests(folder: Path, lid176: Path | None = None) -> tuple[Contest, ...]:
    """All of them. `folder` holds the environments of peers that need their own; `lid176` is that model's file."""
    apart = partial(_apart, folder)
    return (
        Contest("read", 16, _read),
        Contest("normalize", 10, _normalize),
        Contest("identify language", 10, partial(_language, None)),
        Contest("identify language, over 2 KB", 10, partial(_language, None), longer_than=LONG),
        *([Contest("identify language, lid.176", 10, partial(_language, lid176))] if lid176 else []),
        Contest("quality metrics", SHARD, _quality),
        Contest("quality metrics, English", 6, partial(_quality_english, apart), language=ENGLISH),
        Contest("signature", SHARD, _signature),
        Contest("signature, English", 6, partial(_signature_english, apart), language=ENGLISH),
        Contest("find duplicates", 10, _duplicates, per_document=True),
        Contest("tokenize", 6, _tokenize, once=True),
        Contest("tokenize, all cores", 10, _tokenize, once=True, all_cores=True),
        Contest("whole pass", SHARD, _whole),
        Contest("whole pass, English", 6, _whole_english, language=ENGLISH),
    )


def _apart(folder: Path, environment: Environment, label: str, package: str, work: str, megabytes: float) -> Apart:
    peer = Path(__file__).parent / "apart" / f"{environment.name.replace('-', '_')}.py"
    python: Callable[[], Path] = partial(environment.python, folder)
    return Apart(label, package, python=python, peer=peer, work=work, megabytes=megabytes)


def _read() -> Sequence[Contestant]:
    return [OURS(ours.read), Here("datatrove JsonlReader", "datatrove", datatrove.read)]


def _normalize() -> Sequence[Contestant]:
    return [
        OURS(ours.step(Normalize(), by_language=False)),
        Here("datatrove FTFYFormatter", "datatrove", datatrove.ftfy, 1.5),
        Here("ftfy.fix_encoding", "ftfy", repair.fix_encoding, 2),
    ]


def _language(model: Path | None) -> Sequence[Contestant]:
    package, name = "fasttext-numpy2-wheel", "fastText, lid.176" if model else "fastText, same model"
    return [
        OURS(ours.identify(str(model) if model else "embedded")),
        Here(name, package, fasttext.predict(model), 1.5),
        Here(f"{name}, on prepared text", package, fasttext.predict_prepared(model), 1.5),
    ]


def _quality() -> Sequence[Contestant]:
    return [
        OURS(ours.step(MeasureQuality(), by_language=True)),
        Here(OUR_WORDS, "datatrove", datatrove.quality(own=False), 0.8),
    ]


def _quality_english(apart: Callable[..., Contestant]) -> Sequence[Contestant]:
    return [
        OURS(ours.step(MeasureQuality(), by_language=True)),
        Here(OWN_WORDS, "datatrove", datatrove.quality(own=True), 0.3),
        apart(NEMO_CURATOR, "NeMo Curator, words between spaces", "nemo-curator", "quality", 0.8),
        apart(DATA_JUICER, "Data-Juicer, words between spaces", "py-data-juicer", "quality", 0.8),
    ]


def _signature() -> Sequence[Contestant]:
    return [
        OURS(ours.step(Sign(), by_language=True)),
        Here(OUR_WORDS, "datatrove", datatrove.signatures(own=False), 1),
    ]


def _signature_english(apart: Callable[..., Contestant]) -> Sequence[Contestant]:
    return [
        OURS(ours.step(Sign(), by_language=True)),
        Here(OWN_WORDS, "datatrove", datatrove.signatures(own=True), 0.4),
        Here("datasketch MinHash, split at spaces", "datasketch", minhash.datasketch_signatures, 2),
        Here("rensa RMinHash, split at spaces", "rensa", minhash.rensa_signatures),
        apart(TEXT_DEDUP, "text-dedup, split at punctuation", "text-dedup", "signature", 1),
        apart(DATA_JUICER, "Data-Juicer, split at spaces", "py-data-juicer", "signature", 1),
    ]


def _duplicates() -> Sequence[Contestant]:
    return [
        OURS(ours.duplicates),
        Here("datasketch MinHashLSH", "datasketch", minhash.datasketch_duplicates, 5),
        Here("rensa RMinHashLSH", "rensa", minhash.rensa_duplicates),
    ]


def _tokenize() -> Sequence[Contestant]:
    return [
        OURS(ours.tokenize),
        Here("tokenizers encode_batch_fast", "tokenizers", tokenizers.tokenizers_batch, 3),
        Here("tiktoken encode_ordinary_batch", "tiktoken", tokenizers.tiktoken_batch),
    ]


def _whole() -> Sequence[Contestant]:
    return [OURS(ours.whole_pass), Here(OUR_WORDS, "datatrove", datatrove.chain(own=False), 0.6)]


def _whole_english() -> Sequence[Contestant]:
    return [OURS(ours.whole_pass), Here(OWN_WORDS, "datatrove", datatrove.chain(own=True), 0.25)]
