"""vLLM's engine, kept full: requests in at any time, from any thread, and each completion out as it ends.

In: a model, its revision and a context length; then numbered `Request`s. Out: `(number, Completion)` pairs, handed to a
callback. Runs in the engine's own process and Python environment, where neither numba nor pyarrow need be: it imports
vLLM and the protocol alone, and does not know of Ray, of ledgers or of who asks.
"""

import json
import multiprocessing
import multiprocessing.connection
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import vllm
from vllm import EngineArgs, SamplingParams
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.engine.llm_engine import LLMEngine

from marco_data.generation.generator import ERROR, LENGTH, REFUSED_BY_SERVER, STOP, TOO_LONG, Completion, Request
from marco_data.generation.step_clock import Clock

ARRIVALS = 32
"""Requests taken in between two steps. Each is tokenized first, while what has ended waits to be told."""

BATCHED_TOKENS = 4096
"""Of a step on a processor, where no prompt is longer."""

Ended = Callable[[list[tuple[int, Completion]]], None]
Died = Callable[[str], None]


class VllmEngine:
    """One engine and the thread that feeds it. The constructor returns when the model can answer."""

    def __init__(
        self,
        model: str,
        revision: str,
        context: int,
        *,
        tensor_parallel: int = 1,
        gpus: float = 1.0,
        max_num_seqs: int = 256,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """`gpus` are those of the whole engine; `options` are vLLM's engine arguments, which win over ours."""
        leash()
        arguments: dict[str, Any] = {
            "max_model_len": context,
            "max_num_seqs": max_num_seqs,
            "tensor_parallel_size": tensor_parallel,
            # Any whitespace between JSON's tokens is allowed otherwise, and a small model may write nothing else.
            "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
            # Its own count of what runs is dear to a small model on two busy cores: 1,480 to 1,620 tokens a second with
            # it, 2,150 to 2,400 without. Who runs is known here: those that came first, up to `max_num_seqs`.
            "disable_log_stats": True,
        }
        if 0 < gpus < 1:
            arguments["gpu_memory_utilization"] = round(0.9 * gpus, 3)
        if gpus == 0:
            # vLLM 0.32 on a processor dies of a seeded request whose prompt is computed in two steps.
            arguments |= {"enable_chunked_prefill": False, "max_num_batched_tokens": max(context, BATCHED_TOKENS)}
        arguments |= dict(options or {})
        if not os.path.isdir(model):  # noqa: PTH112 - a name at the hub is no path
            arguments |= {"revision": revision, "tokenizer_revision": revision}
        self._gpus = gpus
        self._clock = Clock()
        self._engine = LLMEngine.from_engine_args(EngineArgs(model=model, **arguments))
        self._counts = bool(self._engine.log_stats)
        if self._counts:
            self._engine.logger_manager = _Steps(self._clock)
        self._most = self._engine.vllm_config.scheduler_config.max_num_seqs
        self._queued: dict[int, None] = {}
        self._running: dict[int, float] = {}  # since when
        self._room = self._engine.model_config.max_model_len
        self._tokenizer: Any = self._engine.get_tokenizer()
        self._tokens((("user", "a model that is no chat model shows it here"),))
        self._arrivals: queue.SimpleQueue[tuple[int, Request] | None] = queue.SimpleQueue()
        self._dropped: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._tokens_in: dict[int, int] = {}
        self._names: dict[int, str] = {}

    def serve(self, ended: Ended, died: Died) -> None:
        """Answer in a thread from now on. `died` is told the engine's error; after that nothing ends."""
        threading.Thread(target=self._serve, args=(ended, died), daemon=True, name="engine").start()
        threading.Thread(target=self._watch, args=(died,), daemon=True, name="watch").start()

    def ask(self, number: int, request: Request) -> None:
        self._arrivals.put((number, request))

    def drop(self, numbers: Iterable[int]) -> None:
        """Nobody wants these any more: they stop, and are not answered."""
        for number in numbers:
            self._dropped.put(number)
        self._arrivals.put(None)

    @property
    def version(self) -> str:
        return f"vllm {vllm.__version__}"

    def steps(self, since: float) -> list[tuple[float, int, int]]:
        """For each step since that moment of the monotonic clock: its end, how many requests ran, how many waited."""
        return self._clock.steps(since)

    def _serve(self, ended: Ended, died: Died) -> None:
        try:
            while True:
                self._take_arrivals(ended)
                while not self._dropped.empty():
                    self._drop(self._dropped.get())
                if self._engine.has_unfinished_requests():
                    self._admit(time.monotonic())
                    outputs = self._engine.step()
                    now = time.monotonic()
                    if not self._counts:
                        self._clock.step(now, len(self._running), len(self._queued))
                    done = [self._done(output, now) for output in outputs if output.finished]
                    if done:
                        ended([one for one in done if one is not None])
        except BaseException as error:
            died(f"{type(error).__name__}: {error}")

    def _watch(self, died: Died) -> None:
        """vLLM 0.32 waits for ever on a process of its own that was killed, for want of memory above all."""
        processes = {process.sentinel: process for process in multiprocessing.active_children()}
        if processes:
            (sentinel, *_) = multiprocessing.connection.wait(list(processes))
            ended = processes[sentinel]  # type: ignore[index]
            ended.join()
            died(f"the engine's process {ended.name} ended with exit code {ended.exitcode}")

    def _take_arrivals(self, ended: Ended) -> None:
        for _ in range(ARRIVALS):
            if self._engine.has_unfinished_requests() and self._arrivals.empty():
                return
            idle = not self._engine.has_unfinished_requests()
            arrival = self._arrivals.get()
            if arrival is None:
                return
            if idle:
                self._clock.wake(time.monotonic())
            number, request = arrival
            try:
                refused = self._add(number, request)
            except EngineDeadError:
                raise
            except Exception as error:  # vLLM's validation has many kinds of them: this request fails, alone
                print(f"request {number} was refused: {error}", file=sys.stderr, flush=True)
                refused = Completion("", ERROR, self._tokens_in.pop(number, 0), error=REFUSED_BY_SERVER)
            if refused is not None:
                ended([(number, refused)])

    def _add(self, number: int, request: Request) -> Completion | None:
        """Put it into the engine, or say why it cannot be answered."""
        tokens = self._tokens(request.messages)
        if len(tokens) > self._room - request.sampling.max_tokens:
            return Completion("", ERROR, len(tokens), error=TOO_LONG)
        self._tokens_in[number] = len(tokens)
        sampling = request.sampling
        schema = None if request.schema is None else StructuredOutputsParams(json=json.loads(request.schema))
        parameters = SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            stop=list(sampling.stop),
            seed=request.seed,
            structured_outputs=schema,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        self._names[number] = self._engine.add_request(str(number), {"prompt_token_ids": tokens}, parameters)
        self._queued[number] = None
        return None

    def _tokens(self, messages: Iterable[tuple[str, str]]) -> list[int]:
        chat = [{"role": role, "content": content} for role, content in messages]
        text = self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _admit(self, now: float) -> None:
        """Those that run from now on: as vLLM does it, while its cache has room."""
        while self._queued and len(self._running) < self._most:
            number = next(iter(self._queued))
            del self._queued[number]
            self._running[number] = now

    def _done(self, output: Any, now: float) -> tuple[int, Completion] | None:
        number = int(output.request_id)
        self._names.pop(number, None)
        self._queued.pop(number, None)
        share = self._clock.between(self._running.pop(number, now), now)
        tokens_in = self._tokens_in.pop(number, None)
        if tokens_in is None:
            return None  # dropped in the same step in which it ended
        (answer,) = output.outputs
        known = answer.finish_reason in (STOP, LENGTH)
        return number, Completion(
            text=answer.text if known else "",
            finish_reason=answer.finish_reason if known else ERROR,
            tokens_in=tokens_in,
            tokens_out=len(answer.token_ids),
            gpu_seconds=share * self._gpus,
            error=None if known else REFUSED_BY_SERVER,
        )

    def _drop(self, number: int) -> None:
        name = self._names.pop(number, None)
        self._tokens_in.pop(number, None)
        self._queued.pop(number, None)
        self._running.pop(number, None)
        if name is not None:
            self._engine.abort_request([name], internal=True)


class _Steps:
    """Notes after each step how many requests run, by vLLM's count where that is wanted (`disable_log_stats: false`).

    It takes the place of vLLM's own loggers, which write metrics for a server of theirs that nobody asks here.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def record(self, scheduler_stats: Any, iteration_stats: Any, mm_cache_stats: Any = None) -> None:
        waiting = scheduler_stats.num_waiting_reqs + scheduler_stats.num_skipped_waiting_reqs
        ended = len(iteration_stats.finished_requests) if iteration_stats is not None else 0
        self._clock.step(time.monotonic(), scheduler_stats.num_running_reqs + ended, waiting)

    def log(self) -> None:
        """Every ten seconds; there is nothing to say."""


WATCH = "import os, signal, sys; sys.stdin.read(); os.killpg(int(sys.argv[1]), signal.SIGKILL)"


def leash() -> None:
    """Let the engine's processes die with this one, however it dies.

    vLLM computes in processes of its own, which outlive a parent that is killed and go on holding its GPU, so that the
    next engine would find no memory. They are one group; a watcher outside of it sees the pipe from here close.
    """
    if os.getpgrp() != os.getpid():
        os.setpgrp()
    subprocess.Popen(
        [sys.executable, "-c", WATCH, str(os.getpgrp())],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
