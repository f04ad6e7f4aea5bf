"""Sign: `text` in; its hash, the number of its distinct shingles and its MinHash signature out.

What deduplication knows of a text. A shingle is `Language.shingle_size` consecutive words (case folded, joined
by one space, punctuation left out) or, for languages written without spaces, characters (case folded, white
space and the space of no width left out). A document with fewer units has one shingle, all of it; one without a
single word (emoji, punctuation) is its own white-space-free text. So two short documents are near duplicates only if
they are equal after folding. What `frames` match is cut before all this; the hash is that of the whole text.

It judges nothing: which signatures are alike is `dedup`'s to say.
"""

import hashlib
from collections.abc import Callable
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash
from pydantic import Field

from marco_data.errors import RecipeError
from marco_data.frames import Frames, cut_frames
from marco_data.languages import SHIPPED, Language, new_digest
from marco_data.step import UNICODE, BoundStep, Step, StepOutput, Tools
from marco_data.words import Texts, find_words, texts_of

Hashes = npt.NDArray[np.uint32]
Offsets = npt.NDArray[np.int64]
Shingler = Callable[[Texts], tuple[Hashes, Offsets]]


class Sign(Step):
    """MinHash signatures of `hashes` values.

    `shingle_sizes` replaces the number of words or characters of a shingle by language code. `frames` are the lines
    that templates write, see `marco_data.frames`.
    """

    version: ClassVar[int] = 2
    reads: ClassVar[tuple[str, ...]] = ("text",)
    packages: ClassVar[tuple[str, ...]] = ("icu4py", UNICODE)

    hashes: int = Field(112, ge=1)
    shingle_sizes: dict[str, int] = Field(default_factory=dict)
    frames: Frames = ()

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
        rows = [f"{x.code} {x.words} {x.shingle_unit} {x.shingle_size}" for x in SHIPPED.values()]
        shipped = {"shingles_by_language": hashlib.sha256("\n".join(rows).encode()).hexdigest()}
        return shipped | new_digest("iso639_1", "words", "shingle_unit", "shingle_size")

    def identity(self, tools: Tools) -> dict[str, Any]:
        """Without frames that of a step that knows none: they were added later, and their absence changes nothing."""
        identity = super().identity(tools)
        if not self.frames:
            del identity["config"]["frames"]
        return identity

    def shingler(self, language: Language) -> Shingler:
        """texts -> (hashes, bounds): text i has the distinct hashes[bounds[i]:bounds[i + 1]], in no order.

        As `bind` signs them and `dedup` compares them.
        """
        from marco_data.kernels import shingles  # numba takes 0.6 s to import: not for a plan
        from marco_data.kernels.characters import characters, folding

        size = self.shingle_sizes.get(language.code, language.shingle_size)

        def of_words(texts: Texts) -> tuple[Hashes, Offsets]:
            words = find_words(texts, language)
            places = (words.starts, words.ends, words.seen, words.first)
            return shingles.word_shingles(texts.data, texts.offsets, *places, characters(), folding(), size)

        def of_characters(texts: Texts) -> tuple[Hashes, Offsets]:
            return shingles.character_shingles(texts.data, texts.offsets, characters(), folding(), size)

        shingled = of_words if language.shingle_unit == "word" else of_characters
        return (lambda texts: shingled(cut_frames(texts, self.frames))) if self.frames else shingled

    def bind(self, language: Language | None, tools: Tools) -> BoundStep:
        if language is None:
            raise RecipeError(
                "step `sign` needs to know the language of a document", hint="put `identify_language` before it"
            )
        from marco_data.kernels import minhash

        shingler = self.shingler(language)
        factors, summands = minhash.permutations(self.hashes)

        def sign(batch: pa.RecordBatch) -> StepOutput:
            texts = texts_of(batch.column("text"))
            hashes = [xxhash.xxh3_128_hexdigest(texts.data[a:b].data) for a, b in pairwise(texts.offsets.tolist())]
            shingles, bounds = shingler(texts)
            signatures = minhash.signatures(shingles, bounds, factors, summands)
            columns = {
                "text_hash": pa.array(hashes, pa.string()),
                "shingles": pa.array(np.diff(bounds).astype(np.int32)),
                "signature": pa.FixedSizeListArray.from_arrays(pa.array(signatures.ravel()), self.hashes),
            }
            return StepOutput(columns=columns)

        return sign
