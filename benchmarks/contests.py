"""What is compared: the parts of the pass in their order, and who is in each contest."""

from functools import partial

from benchmarks import ours, peers
from benchmarks.contest import Contest, Contestant
from marco_data.steps.identify_language import IdentifyLanguage
from marco_data.steps.measure_quality import MeasureQuality
from marco_data.steps.normalize import Normalize
from marco_data.steps.sign import Sign

ENGLISH = "eng_Latn"
OURS = partial(Contestant, "marco-data", "marco-data")
OUR_WORDS = "datatrove, our words"
OWN_WORDS = "datatrove, its own words (spaCy)"


def _datatrove(prepare_of: object, *, english: bool) -> list[Contestant]:
    """As it comes, on English; with our words, on everything (it has no tokenizer for a third of the languages)."""
    assert callable(prepare_of)
    return [Contestant(OWN_WORDS if english else OUR_WORDS, "datatrove", prepare_of(own=english))]


def _read() -> list[Contestant]:
    return [OURS(ours.read), Contestant("datatrove JsonlReader", "datatrove", peers.datatrove_read)]


def _normalize() -> list[Contestant]:
    return [
        OURS(ours.step(Normalize(), by_language=False)),
        Contestant("datatrove FTFYFormatter", "datatrove", peers.datatrove_ftfy),
        Contestant("ftfy.fix_encoding", "ftfy", peers.ftfy_alone),
    ]


def _language() -> list[Contestant]:
    return [
        OURS(ours.step(IdentifyLanguage(), by_language=False)),
        Contestant("fastText, same model and characters", "fasttext-numpy2-wheel", peers.fasttext_predict(whole=False)),
        Contestant("fastText, same model, whole text", "fasttext-numpy2-wheel", peers.fasttext_predict(whole=True)),
    ]


def _quality(*, english: bool) -> list[Contestant]:
    return [
        OURS(ours.step(MeasureQuality(), by_language=True)),
        *_datatrove(peers.datatrove_quality, english=english),
    ]


def _signature(*, english: bool) -> list[Contestant]:
    contestants = [
        OURS(ours.step(Sign(), by_language=True)),
        *_datatrove(peers.datatrove_signatures, english=english),
    ]
    if english:
        contestants += [
            Contestant("datasketch MinHash, split at spaces", "datasketch", peers.datasketch_signatures),
            Contestant("rensa RMinHash, split at spaces", "rensa", peers.rensa_signatures),
        ]
    return contestants


def _duplicates() -> list[Contestant]:
    return [
        OURS(ours.duplicates),
        Contestant("datasketch MinHashLSH", "datasketch", peers.datasketch_duplicates),
        Contestant("rensa RMinHashLSH", "rensa", peers.rensa_duplicates),
    ]


def _whole(*, english: bool) -> list[Contestant]:
    return [OURS(ours.whole_pass), *_datatrove(peers.datatrove_pass, english=english)]


def _tokenize() -> list[Contestant]:
    return [
        OURS(ours.tokenize),
        Contestant("tokenizers encode_batch_fast", "tokenizers", peers.tokenizers_batch),
        Contestant("tiktoken encode_ordinary_batch", "tiktoken", peers.tiktoken_batch),
    ]


CONTESTS = (
    Contest("read", 4, _read),
    Contest("normalize", 0.5, _normalize),
    Contest("identify language", 0.8, _language),
    Contest("quality metrics", 0.2, partial(_quality, english=False)),
    Contest("quality metrics, English", 0.2, partial(_quality, english=True), language=ENGLISH),
    Contest("signature", 0.2, partial(_signature, english=False)),
    Contest("signature, English", 0.2, partial(_signature, english=True), language=ENGLISH),
    Contest("find duplicates", 4, _duplicates, per_document=True),
    Contest("tokenize", 3, _tokenize, once=True),
    Contest("tokenize, all cores", 6, _tokenize, once=True, all_cores=True),
    Contest("whole pass", 0.25, partial(_whole, english=False)),
    Contest("whole pass, English", 0.12, partial(_whole, english=True), language=ENGLISH),
)
