"""Duplicates over any number of documents: a chain of nodes that sort, merge and look up run files.

`documents` lists what dedup knows of each document; `same_ids`, `same_texts` find what is the same; `ranks` numbers the
others by priority; `bands` and `buckets` find pairs that may be alike; `verify`, `shingles` and `count` say which are;
`settle` walks them by priority, `lines` brings together what is said of a group of shards, and `sidecars` lays it
beside each. `docs/dedup.md` tells it with figures.
"""

from marco_data.dataset import Dataset
from marco_data.dedup import DropDuplicates
from marco_data.nodes.duplicates.bands import Bands
from marco_data.nodes.duplicates.buckets import Buckets, OpenBuckets
from marco_data.nodes.duplicates.documents import Documents
from marco_data.nodes.duplicates.history import Index
from marco_data.nodes.duplicates.lines import Lines
from marco_data.nodes.duplicates.ranks import Ranks
from marco_data.nodes.duplicates.same_ids import SameIds
from marco_data.nodes.duplicates.same_texts import SameTexts
from marco_data.nodes.duplicates.settle import Settle, SettleOpen
from marco_data.nodes.duplicates.shingles import CountPairs, CountPairsOpen, Shingles, ShinglesOpen
from marco_data.nodes.duplicates.sidecars import Dedup
from marco_data.nodes.duplicates.verify import Verify, VerifyOpen
from marco_data.steps.remove import CopiesRule
from marco_data.steps.sign import Sign


def find_duplicates(
    plan: Dataset, rule: DropDuplicates, sign: Sign, scope: str = "", copies: CopiesRule = "report"
) -> Dataset:
    """A plan that has `measure` and `decide`, with everything up to the sidecars of `dedup`.

    Of documents that were read and, where the plan has them by then, those that were generated. With a `scope` the
    nodes are so named, and leave no index. `copies` says what becomes of documents like those that `remove` lists.
    """
    judged = (
        plan.then(Documents(scope=scope, rule=rule, sign=sign, copies=copies))
        .then(SameIds(scope=scope, rule=rule))
        .then(SameTexts(scope=scope, rule=rule, copies=copies))
        .then(Ranks(scope=scope, rule=rule, copies=copies))
        .then(Bands(scope=scope, rule=rule))
        .then(Buckets(scope=scope, rule=rule))
        .then(Verify(scope=scope, rule=rule))
        .then(Shingles(scope=scope, rule=rule, sign=sign))
        .then(CountPairs(scope=scope, rule=rule))
        .then(Settle(scope=scope, rule=rule, copies=copies))
        .then(OpenBuckets(scope=scope, rule=rule))
        .then(VerifyOpen(scope=scope, rule=rule))
        .then(ShinglesOpen(scope=scope, rule=rule, sign=sign))
        .then(CountPairsOpen(scope=scope, rule=rule))
        .then(SettleOpen(scope=scope, rule=rule, copies=copies))
        .then(Lines(scope=scope, rule=rule))
        .then(Dedup(scope=scope, rule=rule))
    )
    return judged if rule.index is None or scope else judged.then(Index(rule=rule, sign=sign))
