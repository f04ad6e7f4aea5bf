"""The trainer: shards of a stage in, checkpoints of a Qwen3 or Qwen3-MoE model out.

In come `blend.json` with its `.bin/.idx` shards and a model's sizes; out come checkpoints, metrics and folders that
transformers and vLLM load. It knows neither languages' texts nor how a stage was curated: of the library it uses only
`tokens` and `errors`, and it alone may import torch.
"""
