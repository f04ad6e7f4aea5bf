"""What a look at one thing comes to: ok, warn or fail, and what to fix. Knows nothing that could be looked at."""

from dataclasses import dataclass

OK, WARN, FAIL = "ok", "warn", "fail"
HERE, HEAD, CLUSTER = "here", "the cluster's head", "cluster"
"""Places beside the nodes, which are named by host and number."""


@dataclass(frozen=True)
class Finding:
    """`remedy` is empty where nothing needs fixing; `where` is the machine."""

    check: str
    level: str
    says: str
    remedy: str = ""
    where: str = HERE
