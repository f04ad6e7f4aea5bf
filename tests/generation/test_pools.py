"""Pools files: every mistake is told with file, line, key and remedy, and no secret is in one."""

from pathlib import Path

import pytest

from marco_data.errors import RecipeError
from marco_data.generation.pools import EndpointPool, Price, Replicas, ScriptedPool, VllmPool, load_pools

GOOD = """\
engines:
  kind: vllm
  replicas: 2
  tensor_parallel: 2
  engine: {gpu_memory_utilization: 0.9}
  environment: {VLLM_NO_USAGE_STATS: "1"}
  gpu_price: 2.5
server:
  kind: endpoint
  url: http://10.0.0.1:8000/v1/
  key: SERVER_KEY
  extra: {top_k: 20}
  price: {input: 0.1, output: 0.3}
fake:
  kind: scripted
  script: my.module:answer
"""

# (what is replaced in GOOD, by what, line of the mistake, what the message says)
MISTAKES: dict[str, tuple[str, str, int, tuple[str, ...]]] = {
    "key": ("  replicas: 2", "  replica: 2", 3, ("unknown key `engines.replica`", "did you mean `replicas`?")),
    "key like no other": (
        "  replicas: 2",
        "  xyzzy: 2",
        3,
        ("`engines.xyzzy`", "keys here: engine, environment, gpu_"),
    ),
    "key of another kind": ("  key: SERVER_KEY", "  replicas: 3", 11, ("unknown key `server.replicas`", "keys here:")),
    "key below": ("output: 0.3", "ouput: 0.3", 13, ("unknown key `server.price.ouput`", "did you mean `output`?")),
    "no kind": ("  kind: endpoint\n", "", 8, ("the key `server.kind` is missing", "endpoint, vllm, scripted")),
    "kind": ("kind: endpoint", "kind: endpiont", 9, ("`server.kind`", "`endpiont`", "did you mean `endpoint`?")),
    "kind like no other": ("kind: endpoint", "kind: [3]", 9, ("there is no kind `[3]`", "one of endpoint, vllm, ")),
    "no pool": ("  kind: scripted\n  script: my.module:answer\n", "  7\n", 14, ("the pool `fake` is a mapping",)),
    "missing": ("  url: http://10.0.0.1:8000/v1/\n", "", 8, ("the key `server.url` is missing",)),
    "type": ("replicas: 2", "replicas: two", 3, ("`engines.replicas`", "`{min: 2, max: 8}`")),
    "resource of Ray's own": (
        "replicas: 2",
        "resources: {GPU: 2}",
        3,
        ("`engines.resources`: `GPU` is no name", "`gpus` says it"),
    ),
    "none": ("replicas: 2", "replicas: 0", 3, ("`engines.replicas`", "`{min: 2, max: 8}`")),
    "fewer at most": ("replicas: 2", "replicas: {min: 3, max: 2}", 3, ("`engines.replicas`", "`max: 2` is below")),
    "no engine at first": ("replicas: 2", "replicas: {min: 0, max: 2}", 3, ("`engines.replicas.min`", "equal to 1")),
    "no most": ("replicas: 2", "replicas: {min: 1}", 3, ("the key `engines.replicas.max` is missing",)),
    "key of replicas": ("replicas: 2", "replicas: {mix: 2}", 3, ("unknown key `engines.replicas.mix`", "mean `m")),
    "price": ("gpu_price: 2.5", "gpu_price: -1", 7, ("`engines.gpu_price`", "greater than or equal to 0")),
    "no price": ("gpu_price: 2.5", "gpu_price: .nan", 7, ("`engines.gpu_price`", "finite")),
    "url": ("http://10.0.0.1:8000/v1/", "10.0.0.1:8000", 10, ("`server.url`", "http://host:port/v1")),
    "url of nothing": ("http://10.0.0.1:8000/v1/", "http:///v1", 10, ("`server.url`", "http://host:port/v1")),
    "password in the url": ("http://", "http://me:pass1word@", 10, ("`server.url`", "`key` names the variable")),
    "key in the url": ("/v1/", "/v1?api-key=pass1word", 10, ("`server.url`", "`key` names the variable")),
    "the key itself": ("SERVER_KEY", "sk-pass1word", 11, ("`server.key`", "NAME of an environment variable")),
    "a key like a name": ("SERVER_KEY", "hf_pass1word", 11, ("`server.key`", "NAME of an environment variable")),
    "extra of a request": ("top_k: 20", "seed: 20", 8, ("`extra` cannot set `seed`",)),
    "extra that streams": ("top_k: 20", "stream: true", 8, ("`extra` cannot set `stream`",)),
    "extra that is no JSON": ("top_k: 20", "day: 2026-11-21", 8, ("`extra` is sent as JSON", "date")),
    "half a GPU more": ("tensor_parallel: 2", "gpus: 1.5", 1, ("`gpus: 1.5` is neither",)),
    "too few GPUs": ("replicas: 2", "gpus: 1", 1, ("`tensor_parallel: 2` needs as many `gpus`, not 1",)),
    "named twice": (
        "gpu_memory_utilization: 0.9",
        "max_num_seqs: 3",
        1,
        ("`engine.max_num_seqs` has a key of its own",),
    ),
    "secret": ("VLLM_NO_USAGE_STATS", "HF_TOKEN", 6, ("`HF_TOKEN` looks like a secret", "set it on the machines")),
    "script": ("my.module:answer", "my.module.answer", 16, ("`fake.script`", "package.module:function")),
    "twice": ("fake:", "server:", 14, ("`server` is given twice (first in line 8)",)),
}


def write(folder: Path, text: str) -> Path:
    path = folder / "pools.yaml"
    path.write_text(text, "utf-8")
    return path


def test_pools_are_what_the_file_says(tmp_path: Path):
    assert load_pools(write(tmp_path, GOOD)) == {
        "engines": VllmPool(
            kind="vllm",
            replicas=Replicas(min=2, max=2),
            tensor_parallel=2,
            gpus=2.0,
            engine={"gpu_memory_utilization": 0.9},
            environment={"VLLM_NO_USAGE_STATS": "1"},
            gpu_price=2.5,
        ),
        "server": EndpointPool(
            kind="endpoint",
            url="http://10.0.0.1:8000/v1",
            key="SERVER_KEY",
            extra={"top_k": 20},
            price=Price(input=0.1, output=0.3),
        ),
        "fake": ScriptedPool(kind="scripted", script="my.module:answer"),
    }


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_with_its_place_and_without_a_secret(name, tmp_path: Path):
    old, new, line, parts = MISTAKES[name]
    assert GOOD.count(old) >= 1
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(RecipeError) as failed:
        load_pools(path)
    message = failed.value.message
    assert message.startswith(f"{path}:{line}: ")
    assert [part for part in parts if part not in message] == []
    assert "pass1word" not in str(failed.value)


def test_a_file_that_is_not_there_or_no_mapping_is_told(tmp_path: Path):
    with pytest.raises(RecipeError, match="no pools file at") as failed:
        load_pools(tmp_path / "none.yaml")
    assert "--pools FILE" in str(failed.value)
    with pytest.raises(RecipeError, match=r"pools.yaml:1: a pools file is a mapping of keys to values"):
        load_pools(write(tmp_path, "- a\n"))


@pytest.mark.parametrize(
    ("said", "gpus"), [({}, 1.0), ({"tensor_parallel": 4}, 4.0), ({"gpus": 0.5}, 0.5), ({"gpus": 0}, 0.0)]
)
def test_an_engine_takes_the_gpus_of_its_tensor_parallel_unless_told(said, gpus):
    assert VllmPool(kind="vllm", **said).gpus == gpus


@pytest.mark.parametrize("ending", ["", "/", "/chat/completions"])
def test_the_address_may_be_written_in_three_ways(ending):
    assert EndpointPool(kind="endpoint", url=f"https://h/v1{ending}").url == "https://h/v1"


def test_the_documented_file_is_right(checkout: Path):
    pools = load_pools(checkout / "infra" / "pools.yaml")
    assert {name: pool.kind for name, pool in pools.items()} == {
        "qwen30b": "vllm",
        "qwen30b_server": "endpoint",
        "rehearsal": "scripted",
    }
