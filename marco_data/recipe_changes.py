"""What a changed recipe has to build again: two plans in, what becomes of each node of the second out.

A node whose folder is that of the first plan finds there what was made; one with another folder makes it again; one
behind such a node does so as far as what it reads comes out otherwise. Plans are compared, nothing is read but what
they are named by (tokenizer, models, index): no text, no root. What a root really has left to do, `plan` says.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from marco_data.dataset import Dataset, Node
from marco_data.errors import MarcoError, RecipeError
from marco_data.nodes.measure import Measure
from marco_data.plan import REBUILD, REDECIDE, SKIP, difference
from marco_data.recipe import Recipe
from marco_data.recipe_text import Difference, Reading, differences, read_recipe

GONE = "gone"


@dataclass(frozen=True)
class Named:
    """A node and its folder; None where something that names it is not on this machine, as `problem` says."""

    node: Node
    folder: str | None
    problem: str | None


Plan = dict[str, Named]


@dataclass(frozen=True)
class NodeChange:
    """What becomes of a node: skip, re-decide, rebuild (`after`: only as far as what it reads changes), or gone.

    `part` is what it belongs to: the eighteen nodes of deduplication are one.
    """

    node: str
    part: str
    status: str
    because: list[str] = field(default_factory=list)
    after: str | None = None


@dataclass(frozen=True)
class SectionChange:
    """A section in which two recipes differ, alone: the nodes that it gives another identity, and in words."""

    section: str
    changes: list[str]
    says: str


@dataclass(frozen=True)
class RecipeDiff:
    a: str
    b: str
    keys: list[Difference]
    sections: list[SectionChange]
    nodes: list[NodeChange]


def compare(a: Path, b: Path) -> RecipeDiff:
    """What differs between two recipes, and what of B's plan is not A's."""
    # One after the other: which languages are known is the recipe's that was read last.
    read_a = read_recipe(a)
    plan_a = planned(read_a.recipe)
    read_b = read_recipe(b)
    plan_b = planned(read_b.recipe)
    keys = differences(read_a, read_b)
    sections = [_section(name, read_a, read_b, plan_a) for name in dict.fromkeys(key.section for key in keys)]
    return RecipeDiff(str(a), str(b), keys, sections, list(changes(plan_a, plan_b)))


def planned(recipe: Recipe) -> Plan:
    """The nodes of a recipe's plan, named while its languages are the known ones."""
    dataset = recipe.pipeline_function()(recipe, sample=1.0, verify=False)
    if not isinstance(dataset, Dataset):
        raise RecipeError(f"the pipeline `{recipe.pipeline}` returned no plan")
    return {node.name: _named(node) for node in dataset.accepting(recipe.accept).nodes}


def _named(node: Node) -> Named:
    try:
        return Named(node, node.folder, None)
    except (MarcoError, OSError, ImportError, ValueError) as error:
        problem = error.message if isinstance(error, MarcoError) else str(error)
        return Named(node, None, (problem or type(error).__name__).splitlines()[0])


def changes(a: Plan, b: Plan) -> Iterator[NodeChange]:
    """Each node of B beside A's, and the nodes that only A has."""
    changed: str | None = None  # the first node that makes something else
    for name, new in b.items():
        verb = REDECIDE if new.node.kind == "decide" else REBUILD
        because = list(_because(a.get(name), new))
        if because:
            changed = changed or name
            yield NodeChange(name, _part(new.node), verb, because)
        elif changed is None:
            yield NodeChange(name, _part(new.node), SKIP)
        else:
            yield NodeChange(name, _part(new.node), verb, [f"as far as what `{changed}` makes changes"], changed)
    for name, old in a.items():
        if name not in b:
            yield NodeChange(name, _part(old.node), GONE)


def _part(node: Node) -> str:
    found = type(node).__module__.startswith("marco_data.nodes.duplicates")
    return ("dedup" + (f"_{node.scope}" if node.scope else "")) if found else node.name


def _because(old: Named | None, new: Named) -> Iterator[str]:
    if old is None:
        yield "no such node before"
        return
    yield from list(_other(old, new)) or _other_sources(old, new)


def by_status(found: Iterable[NodeChange]) -> dict[str, list[str]]:
    """{status: what of the plan has it}, in the order of the plan."""
    out: dict[str, list[str]] = {}
    for change in found:
        status = change.status if change.after is None else f"{change.status} as far as it changes"
        if change.part not in out.setdefault(status, []):
            out[status].append(change.part)
    return out


def _other(old: Named, new: Named) -> Iterator[str]:
    """Why a node is another one than before; nothing where it is the same."""
    if old.folder is None or new.folder is None:
        if not _same(old.node, new.node):
            yield f"its settings; not more is known from here: {new.problem or old.problem}"
    elif old.folder != new.folder:
        said = list(difference(old.node.identity["config"], new.node.identity["config"]))
        yield from said or ["what it is made with"]


def _same(old: Node, new: Node) -> bool:
    """Whether two nodes have the same settings; which sources they read is asked apart."""
    if isinstance(old, Measure) and isinstance(new, Measure):
        old = replace(old, sources=new.sources)
    return old == new and old.new_languages == new.new_languages


def _other_sources(old: Named, new: Named) -> Iterator[str]:
    if not (isinstance(old.node, Measure) and isinstance(new.node, Measure)):
        return
    before, after = old.node.sources, new.node.sources
    for name in sorted({*before, *after}):
        if name not in before:
            yield f"the source `{name}` is read; the others are there already"
        elif name not in after:
            yield f"the source `{name}` is left out; nothing is read again"
        elif before[name] != after[name]:
            yield f"the source `{name}` is described otherwise; files that stay the same are there already"
    if old.node.languages != new.node.languages and any("{language}" in p for s in after.values() for p in s.paths):
        yield "files of other languages are read; the rest is there already"


def _section(name: str, a: Reading, b: Reading, plan_a: Plan) -> SectionChange:
    """A with one section as B has it: what only that section changes."""
    try:
        plan_b = planned(Recipe.model_validate(_with_section(a.values, b.values, name.split("."))))
    except ValueError as error:
        told = error.message if isinstance(error, RecipeError) else "it is no recipe"
        return SectionChange(name, [], f"goes only with the other changes: {told.splitlines()[0]}")
    found = list(changes(plan_a, plan_b))
    own = [change.node for change in found if change.status != SKIP and change.after is None]
    return SectionChange(name, own, _says(found))


def _with_section(values: Mapping[str, Any], other: Mapping[str, Any], at: list[str]) -> dict[str, Any]:
    out = {**values}
    if len(at) > 1:
        out[at[0]] = _with_section(values[at[0]], other[at[0]], at[1:])
    elif at[0] in other:
        out[at[0]] = other[at[0]]
    else:
        out.pop(at[0], None)
    return out


def _says(found: list[NodeChange]) -> str:
    """In one line: what a change costs."""
    own = [change for change in found if change.status != SKIP and change.after is None]
    if not own:
        return "nothing is built again"
    parts = ", ".join(dict.fromkeys(change.part for change in own if change.status != GONE))
    if own[0].node == "measure":
        sources = all("source `" in why or "files of other" in why for why in own[0].because)
        first = "; ".join(own[0].because) if sources else "all text is read again"
    elif own[0].status == GONE:
        first = f"without {', '.join(dict.fromkeys(change.part for change in own))}"
    elif own[0].status == REDECIDE:
        first = "re-decide from columns, no text is read"
    else:
        first = f"rebuild {parts}; no text is measured again"
    after = dict.fromkeys(change.part for change in found if change.after is not None)
    return f"{first}; then {', '.join(after)} as far as it changes" if after else first
