"""How good the removal of near duplicates is: pairs of known similarity, shingles, hot buckets, templates."""
