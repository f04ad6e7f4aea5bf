"""Places: what of a cluster the tasks of each step take, by the key `steps` of a pools file.

In: the file, and the nodes of a plan. Out: a `Place` for each node that the file says something of, and what that asks
of Ray. It is context: no identity has any of it, and without Ray nothing reads it. Starts nothing, knows no cluster.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from marco_data.dataset import Node
from marco_data.errors import RecipeError
from marco_data.generation.pools import STEPS, Resources, Share
from marco_data.plan_price import GROUPS, group_of
from marco_data.yaml_lines import explain, read_yaml

ALL = "all"
UNITS = {"": 1} | {f"{p}{b}": (1024 if b else 1000) ** n for n, p in enumerate("KMGT", 1) for b in ("", "i")}


def _size(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]i?)?B?", value.strip())
    if found is None:
        raise ValueError("write bytes as `4GiB`, `500MB` or a number")
    return int(float(found[1]) * UNITS[found[2] or ""])


class Place(BaseModel):
    """What one task takes of the node it runs on, and how many are sent before the first has ended.

    `memory` is what Ray counts on, so that as many tasks share a node as fit into it; it limits no process. `resources`
    are those that the nodes were started with (`ray start --resources`): a small share of `cpu_node` keeps a step on
    the nodes that have it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpus: Share | None = None
    memory: Annotated[int, BeforeValidator(_size), Field(ge=1)] | None = None
    resources: Resources = {}
    in_flight: Annotated[int, Field(ge=1)] | None = None

    def over(self, other: "Place") -> "Place":
        """This one, and the other's word where it says nothing."""
        return Place.model_validate(other.model_dump(exclude_unset=True) | self.model_dump(exclude_unset=True))

    def wants(self, cpus: float) -> dict[str, float]:
        """What a task asks of Ray, by Ray's names of it; `cpus` is the step's own word."""
        memory = {} if self.memory is None else {"memory": float(self.memory)}
        return {"CPU": self.cpus or cpus, **memory, **self.resources}


def load_places(path: Path, nodes: Sequence[Node]) -> dict[str, Place]:
    """{node: its place}. A key is a node as `plan` prints it, a kind of them (`generate`), a group (`dedup`: all of its
    passes), or `all`; of several that mean one node the closest counts, key by key.

    A RecipeError names file, line and key of what is wrong. One file serves many recipes: a kind that this plan has no
    node of is no mistake.
    """
    values, lines = read_yaml(path, a="pools file")
    steps = values.get(STEPS, {})
    if not isinstance(steps, dict):
        raise RecipeError(f"{path}:{lines[STEPS,]}: `{STEPS}` is a mapping, {{measure: {{cpus: 1, memory: 4GiB}}}}")
    known = {ALL, *GROUPS, *(node.name for node in nodes), *_kinds(Node)}  # type: ignore[type-abstract]
    places: dict[str, Place] = {}
    for name, value in steps.items():
        at = f"{path}:{lines[STEPS, name]}"
        if name not in known:
            near = difflib.get_close_matches(str(name), sorted(known), n=1)
            choice = f"did you mean `{near[0]}`?" if near else "its names are those that `marco-data plan` prints"
            raise RecipeError(f"{at}: `{STEPS}.{name}`: this plan has no such step; {choice}")
        if not isinstance(value, dict):
            raise RecipeError(f"{at}: `{STEPS}.{name}` is a mapping: {', '.join(Place.model_fields)}")
        try:
            places[name] = Place.model_validate(value)
        except ValidationError as error:
            numbered = {key: (path, line) for key, line in lines.items()}
            raise explain(error, Place, path, numbered, below=(STEPS, name)) from None
    found = {node.name: _place_of(node, places) for node in nodes}
    return {name: place for name, place in found.items() if place.model_fields_set}


def _place_of(node: Node, places: Mapping[str, Place]) -> Place:
    place = Place()
    for name in dict.fromkeys((node.name, node.kind, group_of(node.kind), ALL)):
        if name in places:
            place = place.over(places[name])
    return place


def _kinds(below: type[Node]) -> set[str]:
    """Of all nodes that there are, a user's own among them."""
    found = {below.kind} if hasattr(below, "kind") else set()
    return found.union(*(_kinds(one) for one in below.__subclasses__()))
