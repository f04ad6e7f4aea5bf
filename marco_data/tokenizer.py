"""A Hugging Face tokenizer for documents: text in, token ids and one end-of-document token out.

`Tokenizer.load` reads a `tokenizer.json` (or `tokenizer.json.gz`, or the folder of one); `train_tokenizer`
makes a small one with the shape of Qwen2's. What a document says never becomes a control token: text that
spells `<|endoftext|>` is encoded as the characters it is. Knows nothing of chat templates, and adds no token
at a document's beginning.

Two engines encode: `fast_encoder`'s where the tokenizer has a shape it was compared on and the two agree when it is
loaded, else the `tokenizers` library. The ids are the contract; nothing that is written says which it was.

Long documents: the library needs about 80 bytes of memory for each byte it encodes (30 MB: 2.5 GB), so for it
documents over `PIECE_CHARACTERS` are cut between a letter and a following space, line feed or punctuation
mark. With a pre-tokenizer of the GPT-2, cl100k or Qwen2 make no word crosses such a place and NFC composes
nothing across it, so the ids are those of the whole document. Any other tokenizer gets its documents whole.
"""

import gzip
import hashlib
import json
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import regex
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from marco_data.errors import RecipeError
from marco_data.fast_encoder import Encoded, Encoder, fast_encoder

END_OF_DOCUMENT = "<|endoftext|>"
SPECIAL_TOKENS = (END_OF_DOCUMENT, "<|im_start|>", "<|im_end|>")
PIECE_CHARACTERS = 50_000

QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# In these, whatever takes a letter takes nothing but letters after it, and nothing looks behind.
_LETTERS_LAST = {QWEN2_PATTERN, QWEN2_PATTERN.replace(r"\p{N}|", r"\p{N}{1,3}|")}
_CUT = regex.compile(r"\p{L}(?=[\p{P} \n])")


@dataclass(frozen=True)
class Tokenizer:
    """A loaded tokenizer with its end-of-document token; `digest` (SHA-256 of its JSON)
    is what makes two of them the same.

    `vocab_size` is the largest id plus one (added tokens included), the number that decides how wide the ids
    are stored; a model's embedding may be padded beyond it. `engine` is the package that encodes: `fastokens` or
    `tokenizers`. It changes the time, never an id.
    """

    digest: str
    end_of_document: str
    end_of_document_id: int
    vocab_size: int
    engine: str
    _encoder: tokenizers.Tokenizer
    _cuts: bool
    _encode: Encoder

    @classmethod
    def load(cls, path: str | Path, end_of_document: str = END_OF_DOCUMENT) -> "Tokenizer":
        """Read a local `tokenizer.json`, `tokenizer.json.gz`, or the folder that holds one.

        Raises RecipeError if there is none, if it is not a tokenizer, or if `end_of_document` is not one
        token of it that text cannot spell.
        """
        file = _tokenizer_file(Path(path))
        return _build(_read(file), end_of_document, str(file))

    def identity(self) -> dict[str, Any]:
        """What a blend and a fingerprint say of the tokenizer, as plain JSON."""
        return {
            "hash": self.digest,
            "end_of_document": self.end_of_document,
            "id": self.end_of_document_id,
            "vocab_size": self.vocab_size,
        }

    def encode_batch(self, texts: Sequence[str]) -> list[npt.NDArray[np.uint32]]:
        """The token ids of each text, shape [tokens], with the end-of-document token as the last."""
        ids, offsets = self.encode_flat(texts)
        return np.split(ids, offsets[1:-1]) if len(texts) else []

    def encode_flat(self, texts: Sequence[str]) -> Encoded:
        """The ids of all texts back to back, each with its end-of-document token, and texts + 1 offsets into them.

        Uses a thread for each core (fastokens: 32 at most), or one in an executor's worker; ids do not depend on it.
        """
        ids, offsets = self._encode(texts)
        out = np.full(len(ids) + len(texts), self.end_of_document_id, dtype=np.uint32)
        for number, (begin, end) in enumerate(pairwise(offsets.tolist())):
            out[begin + number : end + number] = ids[begin:end]
        return out, offsets + np.arange(len(offsets))

    def decode(self, ids: npt.NDArray[np.integer]) -> str:
        """The text of a document's ids, its end-of-document token left out."""
        return self._encoder.decode(ids.tolist(), skip_special_tokens=True)


@lru_cache(maxsize=2)  # building Qwen's takes a second, and a worker loads it for every shard
def _build(content: bytes, end_of_document: str, name: str) -> Tokenizer:
    try:
        encoder = tokenizers.Tokenizer.from_str(content.decode())
    except Exception as error:  # the library raises bare Exception
        raise RecipeError(f"`{name}` is not a Hugging Face tokenizer: {error}") from error
    encoder.encode_special_tokens = True  # text that spells a special token stays text
    encoder.no_truncation()
    encoder.no_padding()
    spec = json.loads(content)
    cuts = _cuts_after_letters(spec)
    reference = _library_encoder(encoder, cuts)
    tokens = [token.content for token in encoder.get_added_tokens_decoder().values()]
    fast = fast_encoder(content.decode(), tokens, reference) if cuts and _is_plain_bpe(spec) else None
    return Tokenizer(
        digest=hashlib.sha256(content).hexdigest(),
        end_of_document=end_of_document,
        end_of_document_id=_end_of_document_id(encoder, end_of_document, name),
        vocab_size=max(encoder.get_vocab(with_added_tokens=True).values()) + 1,
        engine="fastokens" if fast else "tokenizers",
        _encoder=encoder,
        _cuts=cuts,
        _encode=fast or reference,
    )


def _library_encoder(encoder: tokenizers.Tokenizer, cuts: bool) -> Encoder:
    """The `tokenizers` library as an encoder: slower, takes any tokenizer, and is the one the other must equal."""

    def encode(texts: Sequence[str]) -> Encoded:
        pieces = [_pieces(text) if cuts else [text] for text in texts]
        encoded = encoder.encode_batch_fast([p for ps in pieces for p in ps], add_special_tokens=False)
        ids = [np.array(encoding.ids, dtype=np.uint32) for encoding in encoded]
        ends = np.cumsum([0, *map(len, ids)], dtype=np.int64)
        documents = np.cumsum([0, *map(len, pieces)], dtype=np.int64)
        return np.concatenate(ids) if ids else np.empty(0, np.uint32), ends[documents]

    return encode


def _tokenizer_file(path: Path) -> Path:
    if path.is_dir():
        for name in ("tokenizer.json", "tokenizer.json.gz"):
            if (path / name).is_file():
                return path / name
        held = ", ".join(sorted(p.name for p in path.iterdir())[:10]) or "nothing"
        raise RecipeError(f"the folder `{path}` has no tokenizer.json", hint=f"it holds {held}")
    if not path.is_file():
        raise RecipeError(f"there is no tokenizer at `{path}`", hint="give a tokenizer.json or its folder")
    return path


def _read(file: Path) -> bytes:
    """The JSON itself, so that a compressed tokenizer is the same tokenizer."""
    content = file.read_bytes()
    if file.suffix != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError) as error:
        raise RecipeError(f"`{file}` is not a whole gzip file: {error}") from error


def _end_of_document_id(encoder: tokenizers.Tokenizer, token: str, name: str) -> int:
    special = sorted(t.content for t in encoder.get_added_tokens_decoder().values() if t.special)
    hint = f"its special tokens: {', '.join(special) or 'none'}"
    number = encoder.token_to_id(token)
    if number is None:
        raise RecipeError(f"`{token}` is not a token of `{name}`, so it cannot end a document", hint=hint)
    if token not in special or number in encoder.encode(token, add_special_tokens=False).ids:
        raise RecipeError(
            f"`{token}` of `{name}` is an ordinary token: a document's text could end the document", hint=hint
        )
    return number


def _cuts_after_letters(spec: dict[str, Any]) -> bool:
    """Whether a text may be cut between a letter and a space or punctuation without changing an id."""
    if (spec["normalizer"] or {"type": "NFC"}) != {"type": "NFC"} or spec["pre_tokenizer"] is None:
        return False
    added = spec["added_tokens"]
    if any(token["lstrip"] or token["rstrip"] or len(token["content"].split()) != 1 for token in added):
        return False
    match spec["pre_tokenizer"]:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}:
            return True
        case {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            ],
        }:
            return pattern in _LETTERS_LAST
    return False


def _is_plain_bpe(spec: dict[str, Any]) -> bool:
    model = spec["model"]
    decorated = ("dropout", "continuing_subword_prefix", "end_of_word_suffix")
    return model["type"] == "BPE" and not any(model.get(name) for name in decorated)


def _pieces(text: str, size: int = PIECE_CHARACTERS) -> list[str]:
    """The text in pieces of `size` characters and up to the next place where a cut changes nothing."""
    pieces = []
    begin = 0
    while len(text) - begin > size:
        end = _next_cut(text, begin + size)
        pieces.append(text[begin:end])
        begin = end
    return [*pieces, text[begin:]] if begin < len(text) or not pieces else pieces


def _next_cut(text: str, position: int) -> int:
    for match in _CUT.finditer(text, position):
        # A letter since Unicode 3.2 is one in the tables of Python, of `regex` and of the tokenizer alike.
        if unicodedata.ucd_3_2_0.category(match.group()).startswith("L"):
            return int(match.end())
    return len(text)


def train_tokenizer(texts: Iterable[str], vocab_size: int, out: Path) -> None:
    """Train a byte-level BPE with Qwen2's normaliser and word pattern and write it, compact, to a file.

    `vocab_size` counts the 256 bytes, the merges and SPECIAL_TOKENS, whose ids come last; few texts may yield
    fewer. The same texts give the same bytes, whatever their order.
    """
    learned = vocab_size - len(SPECIAL_TOKENS)
    if learned < 256:
        least = 256 + len(SPECIAL_TOKENS)
        raise RecipeError(f"a byte-level vocabulary has at least {least} tokens, not {vocab_size}")
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(QWEN2_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=learned, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    out.write_text(tokenizer.to_str(pretty=False) + "\n", encoding="utf-8", newline="\n")
