"""Prompts to vLLM's `LLM.generate` and nothing around it: what `python -m benchmarks.generation` compares with.

Runs in the engine's environment. In: the model and its arguments as JSON, then a file of requests for every line of
standard input. Out: for each a line of JSON: seconds, tokens, and how many ended.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from marco_data.generation.generator import Request, Sampling


def main() -> None:
    from vllm import LLM, SamplingParams

    settings: dict[str, Any] = json.loads(sys.argv[1])
    engine = LLM(**settings)
    tokenizer: Any = engine.get_tokenizer()
    said = sys.stdout
    print("ready", file=said, flush=True)
    for line in sys.stdin:
        requests = read_requests(Path(line.strip()))
        start = time.perf_counter()
        prompts = [
            tokenizer.apply_chat_template(
                [{"role": role, "content": content} for role, content in request.messages],
                tokenize=False,
                add_generation_prompt=True,
            )
            for request in requests
        ]
        parameters = [
            SamplingParams(
                temperature=request.sampling.temperature,
                top_p=request.sampling.top_p,
                max_tokens=request.sampling.max_tokens,
                seed=request.seed,
            )
            for request in requests
        ]
        outputs = engine.generate(prompts, parameters, use_tqdm=False)
        seconds = time.perf_counter() - start
        tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
        print(json.dumps({"seconds": seconds, "tokens": tokens, "ended": len(outputs)}), file=said, flush=True)


def write_requests(path: Path, requests: list[Request]) -> None:
    rows = [{"messages": r.messages, "sampling": r.sampling.model_dump(), "sample": r.sample} for r in requests]
    path.write_text(json.dumps(rows), "utf-8")


def read_requests(path: Path) -> list[Request]:
    rows = json.loads(path.read_text("utf-8"))
    return [
        Request(tuple(map(tuple, row["messages"])), Sampling(**row["sampling"]), sample=row["sample"]) for row in rows
    ]


if __name__ == "__main__":
    main()
