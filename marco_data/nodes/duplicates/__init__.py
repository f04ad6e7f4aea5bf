"""Duplicates over any number of documents: a chain of nodes that sort, merge and look up run files.

`documents` lists what dedup knows of each document; `same_ids`, `same_texts` find what is the same; `ranks` numbers the
others by priority; `bands` and `buckets` find pairs that may be alike; `verify`, `shingles` and `count` say which are;
`settle` walks them by priority, and `sidecars` lays the verdicts beside the shards. `docs/dedup.md` tells it with
figures.
"""

from marco_data.dataset import Dataset
from marco_data.dedup import DropDuplicates
from marco_data.nodes.duplicates.bands import Bands
from marco_data.nodes.duplicates.buckets import Buckets, OpenBuckets
from marco_data.nodes.duplicates.documents import Documents
from marco_data.nodes.duplicates.history import Index
from marco_data.nodes.duplicates.ranks import Ranks
from marco_data.nodes.duplicates.same_ids import SameIds
from marco_data.nodes.duplicates.same_texts import SameTexts
from marco_data.nodes.duplicates.settle import Settle, SettleOpen
from marco_data.nodes.duplicates.shingles import CountPairs, CountPairsOpen, Shingles, ShinglesOpen
from marco_data.nodes.duplicates.sidecars import Dedup
from marco_data.nodes.duplicates.verify import Verify, VerifyOpen
from marco_data.steps.sign import Sign


def find_duplicates(plan: Dataset, rule: DropDuplicates, sign: Sign) -> Dataset:
    """A plan that has `measure` and `decide`, with everything up to the sidecars of `dedup`."""
    judged = (
        plan.then(Documents(rule=rule, sign=sign))
        .then(SameIds(rule=rule))
        .then(SameTexts(rule=rule))
        .then(Ranks(rule=rule))
        .then(Bands(rule=rule))
        .then(Buckets(rule=rule))
        .then(Verify(rule=rule))
        .then(Shingles(rule=rule, sign=sign))
        .then(CountPairs(rule=rule))
        .then(Settle(rule=rule))
        .then(OpenBuckets(rule=rule))
        .then(VerifyOpen(rule=rule))
        .then(ShinglesOpen(rule=rule, sign=sign))
        .then(CountPairsOpen(rule=rule))
        .then(SettleOpen(rule=rule))
        .then(Dedup(rule=rule))
    )
    return judged if rule.index is None else judged.then(Index(rule=rule, sign=sign))
