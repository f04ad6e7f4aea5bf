"""Whether curating pays, and upcycling: a tiny mixture of experts trained on one crawl, curated and not."""
