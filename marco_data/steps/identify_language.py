"""Identify the language of each document: `text` in, its language, the model's confidence and its script out.

Nothing is dropped here; `select_language` decides, from these columns. The label of a language that is not one of
ours stays what the model calls it (`nno_Latn`, `sh`), so that a report can say what was there.
"""

from typing import ClassVar

import pyarrow as pa

from marco_data.languages import Language
from marco_data.languages.model import READ_CHARACTERS, is_ours, load_model, model_file, model_sha256
from marco_data.languages.prepare import VERSION as NORMALISER
from marco_data.languages.script import dominant_scripts
from marco_data.step import UNICODE, BoundStep, Step, StepOutput, Tools


class IdentifyLanguage(Step):
    """`model`: `embedded`, or the path or URI of any fastText .bin or .ftz (lid.176, GlotLID, lid218, ours)."""

    version: ClassVar[int | None] = 2  # 2: the kernel, which reads long texts at samples
    reads: ClassVar[tuple[str, ...]] = ("text",)
    adds: ClassVar[pa.Schema] = pa.schema(
        [("lid_language", pa.string()), ("lid_score", pa.float64()), ("lid_script", pa.string())]
    )
    packages: ClassVar[tuple[str, ...]] = ("fasttext-numpy2-wheel", "regex", UNICODE)

    model: str = "embedded"

    def content(self, tools: Tools) -> dict[str, str]:
        digest = model_sha256(model_file(self.model, tools))
        return {"model": f"{digest}/prepare-{NORMALISER}" if is_ours(self.model, tools) else digest}

    def bind(self, language: Language | None, tools: Tools) -> BoundStep:
        model = load_model(self.model, tools)

        def identify(batch: pa.RecordBatch) -> StepOutput:
            texts = batch.column("text")
            languages, scores = model.predict_all(texts)
            scripts = dominant_scripts(texts, READ_CHARACTERS)
            return StepOutput({"lid_language": languages, "lid_score": pa.array(scores), "lid_script": scripts})

        return identify
