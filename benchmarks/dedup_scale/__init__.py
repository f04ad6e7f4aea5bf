"""Deduplication alone, of 1e5 to 1e7 documents whose near duplicates are planted, and peers on the same texts.

`planted` makes the documents, `corpus` writes and measures them, `nodes` runs the dedup nodes in a process of its own,
`watch` measures that process and its children, `truth` compares the verdicts with what was planted, `peers` are the
others' commands, `projection` is the arithmetic for a cluster, `report` the page.
"""
