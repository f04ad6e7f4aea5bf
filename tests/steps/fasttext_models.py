"""Tiny fastText models whose labels are those of the models people have: lid.176, GlotLID, lid218."""

import os
import subprocess
import sys
from pathlib import Path

# A line a language, in words of its own: enough for a model of a few kilobytes to tell them apart.
SENTENCES = {
    "ben": "আমি বাংলায় গান গাই এবং নদীর ধারে বসে থাকি",
    "zho": "我们 今天 去 图书馆 看 书 然后 回家",
    "nob": "jeg vet ikke hva han gjorde på fjellet i går",
    "nno": "eg veit ikkje kva han gjorde på fjellet i går kveld",
    "fil": "ang mga bata ay naglalaro sa labas ng bahay",
    "fas": "این کتاب را دیروز از کتابخانه گرفتم و خواندم",
    "eng": "the children are playing outside of the house today",
}
FAMILIES = {
    "lid.176": {"ben": "bn", "zho": "zh", "nob": "no", "nno": "nn", "fil": "tl", "fas": "fa", "eng": "en"},
    "glotlid": {
        "ben": "ben_Beng", "zho": "cmn_Hani", "nob": "nob_Latn", "nno": "nno_Latn", "fil": "fil_Latn",
        "fas": "fas_Arab", "eng": "eng_Latn",
    },
    "lid218": {
        "ben": "ben_Beng", "zho": "zho_Hans", "nob": "nob_Latn", "nno": "nno_Latn", "fil": "tgl_Latn",
        "fas": "pes_Arab", "eng": "eng_Latn",
    },
}  # fmt: skip
OURS = {
    "ben": "ben_Beng", "zho": "zho_Hans", "nob": "nob_Latn", "nno": "nno_Latn", "fil": "fil_Latn", "fas": "fas_Arab",
    "eng": "eng_Latn",
}  # fmt: skip

_TRAIN = """
import sys, fasttext
model = fasttext.train_supervised(sys.argv[1], dim=8, minn=2, maxn=3, bucket=2000, epoch=60, lr=0.5, thread=1,
                                  verbose=0)
model.save_model(sys.argv[2])
"""


def make_model(family: str, folder: Path) -> Path:
    """A `.bin` with the labels of `family`, trained in a process of its own (see `languages/fit.py` for why)."""
    lines, out = folder / f"{family}.txt", folder / f"{family}.bin"
    rows = [f"__label__{FAMILIES[family][name]} {text}\n" for name, text in SENTENCES.items()]
    lines.write_text("".join(rows) * 20, encoding="utf-8")
    environment = os.environ | {"MALLOC_PERTURB_": "255"}
    subprocess.run([sys.executable, "-c", _TRAIN, str(lines), str(out)], env=environment, check=True)
    return out
