"""Peers that cannot share an environment with the others: each in one of its own, asked over its standard input.

`environment.py` builds it, `contestant.py` is the contestant here, `serve.py` answers there. The other files are the
peers: what is measured of each, imported there only. What runs there uses the standard library and the peer.
"""
