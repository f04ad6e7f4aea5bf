"""Several answers that make one document: requests in, one text or one reason out.

Answers stand in a tag of English letters (`<rewrite>`), the same for all languages: what is outside is talk, and a
missing end shows an answer that was broken off. A document is accepted only if all of its parts are. Knows nothing of
what the parts say.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from marco_data.generation.generator import ERROR, NOT_RECORDED, Ask, Completion, Request
from marco_data.generation.guards import Verdict, finished, readable
from marco_data.generation.maker import Made

UNPARSABLE, META_TEXT, CHUNK_FAILED = "unparsable", "meta_text", "chunk_failed"

Source = TypeVar("Source")
Judged = str | Verdict
"""The text of a part, or what is against it."""


async def ask_all(ask: Ask, requests: Iterable[Request]) -> list[Completion]:
    """The completions of all requests, in their order, asked at once; none is left running when one raises.

    Lone surrogates, which JSON can hold and no file can, are `?` in them.
    """
    tasks = [asyncio.ensure_future(ask(request)) for request in requests]
    try:
        completions = await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
    return [replace(completion, text=readable(completion.text)) for completion in completions]


def tagged(text: str, tag: str, source: str) -> Judged:
    """What stands between `<tag>` and `</tag>`; `unparsable` without both, `meta_text` with words outside.

    The first opening and the last closing tag count, and others only if `source` has them too: a text that speaks
    of tags may be rewritten with them, while two answers one after the other are none.
    """
    opening, closing = f"<{tag}>", f"</{tag}>"
    start, end = text.find(opening), text.rfind(closing)
    if start < 0 or end < start:
        return Verdict(UNPARSABLE)
    inside = text[start + len(opening) : end]
    if any(mark in inside and mark not in source for mark in (opening, closing)):
        return Verdict(UNPARSABLE)
    if text[:start].strip() or text[end + len(closing) :].strip():
        return Verdict(META_TEXT)
    return inside.strip()


async def first_that_passes(
    ask: Ask,
    requests: Sequence[Request],
    sources: Sequence[Source],
    judge: Callable[[str, Source], Judged],
    whole: Callable[[Sequence[Judged], Sequence[Completion]], Made],
) -> Made:
    """What `whole` makes of the parts, each of them judged by how it ended and by `judge(answer, source)`.

    In a retry, whose requests carry a later attempt, a part keeps the answer of the first attempt that passed, so that
    what is asked anew is only what failed: the others are found again. Where all pass and the whole does not, all are.
    """
    parts: list[Judged] = [Verdict(UNPARSABLE)] * len(requests)
    completions = [Completion("", ERROR)] * len(requests)
    made = Made()
    for attempt in range(requests[0].attempt + 1):
        failed = [i for i, part in enumerate(parts) if isinstance(part, Verdict)] or range(len(parts))
        answers = await ask_all(ask, [replace(requests[i], attempt=attempt) for i in failed])
        for i, completion in zip(failed, answers, strict=True):
            completions[i], parts[i] = completion, finished(completion) or judge(completion.text, sources[i])
        made = whole(parts, completions)
        if made.text is not None:
            break
    return made


def together(
    parts: Sequence[Judged],
    completions: Sequence[Completion],
    sources: Sequence[str],
    prompts: tuple[str, ...],
    labels: dict[str, str],
) -> Made:
    """All parts joined with blank lines; or `chunk_failed` by the share that failed, of a single part its own reason.

    The labels say why the first part failed, and the text shown is its answer, or its source where there is none.
    A part without a recorded answer was not judged, so neither is the document: it is `not_recorded`.
    """
    labels = {**labels, "chunks": str(len(parts))}
    failed = [(part, i) for i, part in enumerate(parts) if isinstance(part, Verdict)]
    if not failed:
        return Made("\n\n".join(str(part) for part in parts), prompts=prompts, labels=labels)
    verdict, first = next((pair for pair in failed if pair[0].reason == NOT_RECORDED), failed[0])
    shown = completions[first].text or sources[first]
    if len(parts) == 1:
        return Made(None, verdict.reason, verdict.measured, shown, prompts, labels)
    labels |= {"chunk": str(first + 1), "chunk_reason": verdict.reason}
    reason = NOT_RECORDED if verdict.reason == NOT_RECORDED else CHUNK_FAILED
    return Made(None, reason, round(len(failed) / len(parts), 4), shown, prompts, labels)
