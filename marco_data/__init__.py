"""marco-data: multilingual pretraining data, from raw documents to tokenized shards, every document accounted for."""

__version__ = "0.1.0"
