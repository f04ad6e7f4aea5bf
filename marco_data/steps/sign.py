"""Sign: `text` in; its hash, the number of its distinct shingles and its MinHash signature out.

What deduplication knows of a text. A shingle is `Language.shingle_size` consecutive words (case folded, joined
by one space, punctuation left out) or, for languages written without spaces, characters (case folded, white
space left out). A document with fewer units has one shingle, all of it; one without a single word (emoji,
punctuation) is its own white-space-free text. So two short documents are near duplicates only if they are equal
after folding.

It judges nothing: which signatures are alike is `dedup`'s to say.
"""

import hashlib
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash
from pydantic import Field

from marco_data.errors import RecipeError
from marco_data.languages import LANGUAGES, Language
from marco_data.step import UNICODE, BoundStep, Step, StepOutput, Tools
from marco_data.words import split_words

Shingler = Callable[[str], npt.NDArray[np.uint32]]


class Sign(Step):
    """MinHash signatures of `hashes` values.

    `shingle_sizes` replaces the number of words or characters of a shingle by language code.
    """

    version: ClassVar[int] = 1
    reads: ClassVar[tuple[str, ...]] = ("text",)
    packages: ClassVar[tuple[str, ...]] = ("icu4py", UNICODE)

    hashes: int = Field(112, ge=1)
    shingle_sizes: dict[str, int] = Field(default_factory=dict)

    @property
    def adds(self) -> pa.Schema:  # type: ignore[override]  # the signature's length is configuration
        return pa.schema(
            [
                ("text_hash", pa.string()),
                ("shingles", pa.int32()),
                ("signature", pa.list_(pa.uint32(), self.hashes)),
            ]
        )

    def content(self, tools: Tools) -> dict[str, str]:
        """The language table's shingles and word kinds: facts outside this step that shape its output."""
        rows = [f"{x.code} {x.words} {x.shingle_unit} {x.shingle_size}" for x in LANGUAGES.values()]
        return {"shingles_by_language": hashlib.sha256("\n".join(rows).encode()).hexdigest()}

    def shingler(self, language: Language) -> Shingler:
        """text -> its distinct shingle hashes, ascending, as `dedup` compares them and `bind` signs them."""
        from marco_data.kernels import minhash  # numba takes 0.6 s to import: not for a plan

        size = self.shingle_sizes.get(language.code, language.shingle_size)
        by_word = language.shingle_unit == "word"
        units, kernel = (
            (lambda text: word_units(text, language), minhash.word_shingles)
            if by_word
            else (character_units, minhash.character_shingles)
        )

        def shingles(text: str) -> npt.NDArray[np.uint32]:
            data = np.frombuffer(units(text).encode(), np.uint8)
            return np.unique(kernel(data, size))

        return shingles

    def bind(self, language: Language | None, tools: Tools) -> BoundStep:
        if language is None:
            raise RecipeError(
                "step `sign` needs to know the language of a document", hint="put `identify_language` before it"
            )
        from marco_data.kernels import minhash

        shingler = self.shingler(language)
        factors, summands = minhash.permutations(self.hashes)

        def sign(batch: pa.RecordBatch) -> StepOutput:
            hashes, counts = [], np.empty(batch.num_rows, np.int32)
            signatures = np.empty((batch.num_rows, self.hashes), np.uint32)
            for i, value in enumerate(batch.column("text")):
                text = value.as_py()
                hashes.append(xxhash.xxh3_128_hexdigest(text.encode()))
                shingles = shingler(text)
                counts[i] = len(shingles)
                signatures[i] = minhash.signature(shingles, factors, summands)
            flat = pa.FixedSizeListArray.from_arrays(pa.array(signatures.ravel()), self.hashes)
            columns = {"text_hash": pa.array(hashes, pa.string()), "shingles": pa.array(counts), "signature": flat}
            return StepOutput(columns=columns)

        return sign


def word_units(text: str, language: Language) -> str:
    """The words of a text, case folded, one space between them; the text's characters where it has no words."""
    words = [w for w in split_words(text, language) if w.isalnum() or any(map(str.isalnum, w))]
    return " ".join(words).casefold() if words else character_units(text)


def character_units(text: str) -> str:
    """The characters of a text, case folded, white space left out."""
    return "".join(text.casefold().split())
