"""ftfy's repair of mojibake alone, which ours and datatrove's formatter both call."""

from benchmarks.contest import Thunk
from benchmarks.corpus import Round


def fix_encoding(texts: Round) -> Thunk:
    import ftfy

    plain = [text.text for text in texts]
    return lambda: [ftfy.fix_encoding(text) for text in plain]
