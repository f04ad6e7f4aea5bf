"""The peers that live in our environment, a file for each kind of work, imported only when their turn comes.

Standard library only: peers in environments of their own read the two numbers below as well.
"""

HASHES = 112
SHINGLE = 5
"""What everybody signs: the values of a signature, the words of a shingle; ours by default."""
