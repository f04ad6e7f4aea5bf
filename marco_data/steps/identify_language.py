"""Identify the language of each document: `text` in, its language, the model's confidence, its script and shares out.

Nothing is dropped here; `select_language` decides, from these columns. The label of a language that is not one of
ours stays what the model calls it (`nno_Latn`, `sh`), so that a report can say what was there. So does the label of
what is no language (`zxx_Noise`); only code (`zxx_Code`) from a source that declares a language is of that language.

A language that a recipe adds and the model does not know has the labels that it is `identified_as`: a document whose
source declares that language and that the model gives one of these labels (`bos_Latn` as `hrv_Latn`) is of the declared
language. Its score stays the model's.
"""

from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from marco_data.languages import CODE, Language, new_digest, new_languages
from marco_data.languages.model import FEW, READ_CHARACTERS, is_ours, load_model, model_file, model_sha256
from marco_data.languages.prepare import VERSION as NORMALISER
from marco_data.languages.script import dominant_scripts
from marco_data.languages.shares import SHARES, language_shares
from marco_data.step import UNICODE, BoundStep, Step, StepOutput, Tools


class IdentifyLanguage(Step):
    """`model`: `embedded`, or the path or URI of any fastText .bin or .ftz (lid.176, GlotLID, lid218, ours)."""

    version: ClassVar[int | None] = 3  # 2: the kernel, which reads long texts at samples; 3: shares, declared code
    reads: ClassVar[tuple[str, ...]] = ("text", "declared_language")
    adds: ClassVar[pa.Schema] = pa.schema(
        [
            ("lid_language", pa.string()),
            ("lid_score", pa.float64()),
            ("lid_script", pa.string()),
            ("lid_shares", SHARES),
        ]
    )
    packages: ClassVar[tuple[str, ...]] = ("fasttext-numpy2-wheel", "regex", UNICODE)

    model: str = "embedded"

    def content(self, tools: Tools) -> dict[str, str]:
        digest = model_sha256(model_file(self.model, tools))
        model = {"model": f"{digest}/prepare-{NORMALISER}" if is_ours(self.model, tools) else digest}
        return model | new_digest("iso639_1", "scripts", "aliases", "identified_as")

    def bind(self, language: Language | None, tools: Tools) -> BoundStep:
        model = load_model(self.model, tools)

        def identify(batch: pa.RecordBatch) -> StepOutput:
            texts, declared = batch.column("text"), batch.column("declared_language")
            reading = model.read(texts, FEW)
            declared_code = pc.and_(pc.equal(reading.languages, CODE), pc.is_valid(declared))
            found = pc.if_else(declared_code, declared, reading.languages)
            shares = language_shares(model, texts, reading)
            for code, new in new_languages().items():
                found, shares = _as_declared(code, new.identified_as, declared, found, shares)
            return StepOutput(
                {
                    "lid_language": found,
                    "lid_score": pa.array(reading.scores),
                    "lid_script": dominant_scripts(texts, READ_CHARACTERS),
                    "lid_shares": shares,
                }
            )

        return identify


def _as_declared(
    code: str, labels: tuple[str, ...], declared: pa.Array, found: pa.Array, shares: pa.Array
) -> tuple[pa.Array, pa.Array]:
    """Languages and shares where `labels` are `code` in the documents that declare it and have one of them."""
    own = pa.array([code, *labels], pa.string())
    its = pc.and_(pc.fill_null(pc.equal(declared, code), False), pc.is_in(found, own))
    if not labels or not pc.any(its, min_count=0).as_py():
        return found, shares
    rows = shares.to_pylist()
    for i in pc.indices_nonzero(its).to_pylist():
        kept = [entry for entry in rows[i] if entry["language"] not in {code, *labels}]
        if mine := sum(entry["share"] for entry in rows[i]) - sum(entry["share"] for entry in kept):
            kept.append({"language": code, "share": round(mine, 4)})
        rows[i] = sorted(kept, key=lambda entry: (-entry["share"], entry["language"]))
    return pc.if_else(its, code, found), pa.array(rows, SHARES)
