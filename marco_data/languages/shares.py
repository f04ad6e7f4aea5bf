"""How a text divides between languages: a string array in, the share of each language in each text out.

A text is cut into pieces (`kernels/pieces.py`) and the model asked for the language of each. A share is the letters of
the pieces of a language, of the letters of all pieces. What the shares of a text lack to 1 is of no language for
certain: pieces that are too small, and those whose score is below SURE. A text of up to FEW pieces is read whole; a
longer one is looked at in so many places, and in MANY where languages are more than one. Knows nothing of verdicts.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from marco_data.languages.model import FEW, LanguageModel, Reading

SHARES = pa.list_(pa.struct([("language", pa.string()), ("share", pa.float64())]))

SURE = 0.7
"""The least score with which a piece counts for a language."""

MANY = 48
"""Pieces of a text whose first FEW are not all of one language."""


def language_shares(model: LanguageModel, texts: pa.Array, reading: Reading | None = None) -> pa.Array:
    """For each text its languages and their shares, rounded to 1e-4: the greatest first, equals by code.

    `reading`: what the model read in FEW pieces of these texts, where that is known already.
    """
    shares = _shares(reading or model.read(texts, FEW), len(texts))
    mixed = np.flatnonzero(pc.list_value_length(shares).to_numpy() > 1)
    if len(mixed) == 0:
        return shares
    place = np.arange(len(texts))
    place[mixed] = len(texts) + np.arange(len(mixed))
    more = _shares(model.read(texts.take(pa.array(mixed)), MANY), len(mixed))
    return pa.concat_arrays([shares, more]).take(pa.array(place))


def _shares(reading: Reading, n: int) -> pa.Array:
    """The shares of n texts."""
    from marco_data.kernels.pieces import LEAST  # numba takes 0.6 s to import: not for a plan

    pieces = reading.pieces
    whole = np.bincount(pieces.text, pieces.stands_for, n)
    sure = pa.array((reading.piece_scores >= SURE) & (pieces.size >= LEAST))
    found = pa.table({"text": pieces.text, "language": reading.piece_languages, "letters": pieces.stands_for})
    found = found.filter(sure).group_by(["text", "language"]).aggregate([("letters", "sum")])
    found = found.sort_by([("text", "ascending"), ("letters_sum", "descending"), ("language", "ascending")])
    text = found["text"].to_numpy()
    shares = pa.array(np.round(found["letters_sum"].to_numpy() / whole[text], 4), pa.float64())
    entries = pa.StructArray.from_arrays([found["language"].combine_chunks(), shares], fields=list(SHARES.value_type))
    return pa.ListArray.from_arrays(pa.array(np.searchsorted(text, np.arange(n + 1)), pa.int32()), entries)
