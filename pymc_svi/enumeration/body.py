"""One step of a ``scan``, traced on placeholders for whatever changes from step to step."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.graph.replace import graph_replace
from pytensor.graph.traversal import ancestors, toposort
from pytensor.tensor.random.op import RandomVariable, RNGConsumerOp
from pytensor.tensor.random.type import RandomType
from pytensor.tensor.shape import Shape
from pytensor.tensor.type_other import NoneTypeT

from pymc_svi.enumeration.lookups import without_lookups
from pymc_svi.errors import SiteError, sentence
from pymc_svi.gradients.named_dims import without_named_dims
from pymc_svi.gradients.vectorize import vectorize
from pymc_svi.handlers import Handler, Site, Trace, trace
from pymc_svi.handlers.distributions import resized
from pymc_svi.handlers.log_prob import as_plain_tensor
from pymc_svi.handlers.stack import no_handlers
from pymc_svi.handlers.values import as_site_value

__all__ = [
    "Body",
    "Tree",
    "from_outside",
    "over_time",
    "trace_body",
    "vectorized",
    "with_full_parameters",
]


class Tree:
    """A nest of tuples, lists and dicts, and the variables in it.

    Parameters
    ----------
    nest : Any
        The nest; ``None`` stands for nothing.
    """

    def __init__(self, nest: Any):
        self._nest = nest
        self.leaves: list[Any] = []
        self._collect(nest)

    def _collect(self, nest: Any) -> None:
        if isinstance(nest, dict):
            nest = list(nest.values())
        if isinstance(nest, tuple | list):
            for item in nest:
                self._collect(item)
        elif nest is not None:
            self.leaves.append(nest)

    def filled(self, leaves: Sequence[Any]) -> Any:
        """Return the nest with other leaves."""
        return self._filled(self._nest, iter(leaves))

    def _filled(self, nest: Any, leaves) -> Any:
        if isinstance(nest, dict):
            return {key: self._filled(item, leaves) for key, item in nest.items()}
        if isinstance(nest, tuple | list):
            items = [self._filled(item, leaves) for item in nest]
            named = hasattr(nest, "_fields")
            return type(nest)(*items) if named else type(nest)(items)
        return None if nest is None else next(leaves)


@dataclass
class Body:
    """A step: what it is given, its sites, and what it hands on.

    Attributes
    ----------
    carry, inputs : list of Variable
        Placeholders for what comes from the step before, and for this step's part of the data.
    traced : Trace
        Its sites. Each ``sample`` site has a placeholder for its value.
    values : dict of str to Variable
        These placeholders.
    data : dict of str to Variable
        What the observed sites are observed to be.
    new_carry, outputs : Tree
        What it hands on, and what is collected.
    """

    carry: list[Variable]
    inputs: list[Variable]
    traced: Trace
    values: dict[str, Variable]
    data: dict[str, Variable]
    new_carry: Tree
    outputs: Tree

    @property
    def samples(self) -> list[Site]:
        """The ``sample`` sites."""
        return self.traced.sites("sample")


class _Placeholders(Handler):
    """Give each site of a step a variable for its value."""

    def __init__(self):
        super().__init__()
        self.values: dict[str, Variable] = {}
        self.data: dict[str, Variable] = {}

    def process_message(self, site: Site) -> None:
        """Give a sample site its variable; refuse what belongs outside of a step."""
        if site.type in ("param", "data") or (
            site.type == "plate" and site.plates[0].is_subsampled
        ):
            what = {"plate": "subsampled plate"}.get(site.type, site.type)
            raise SiteError(
                sentence(
                    f"scan: the {what} {site.name!r} is made within a step",
                    fix="Make it before the loop and use it inside",
                )
            )
        if site.type == "sample":
            if site.part_of is not None:
                raise SiteError(
                    sentence(
                        f"scan: the data of site {site.part_of!r} have missing values",
                        fix="Use sample(..., obs_mask=...), or handlers.mask with data filled in",
                    )
                )
            like = site.dist if site.value is None else as_plain_tensor(site.value)
            placeholder = as_plain_tensor(like).type(name=site.name)
            self.values[site.name] = placeholder
            if site.observed:
                self.data[site.name] = as_plain_tensor(site.value)
            site.value = as_site_value(placeholder, like, site.name, site.dims)


def trace_body(
    step: Callable,
    carry: Tree,
    carry_like: Sequence[Variable],
    inputs: Tree,
    like: Sequence[Variable],
) -> Body:
    """Run a step once on placeholders.

    Parameters
    ----------
    step : callable
        ``step(carry, x) -> (carry, y)``.
    carry, inputs : Tree
        The nests that it is given.
    carry_like, like : sequence of Variable
        What the placeholders look like.
    """
    given = _Placeholders()
    carried = [variable.type(name="carry") for variable in carry_like]
    read = [variable.type() for variable in like]
    returned: list[Any] = []

    def program():
        returned.append(step(carry.filled(carried), inputs.filled(read)))

    with no_handlers():
        traced = trace(given.around(program)).get_trace()
    found = returned[0]
    if not isinstance(found, tuple) or len(found) != 2:
        raise SiteError(
            sentence(
                "scan: the step does not return a pair",
                found=type(found).__name__,
                expected="(carry, y): what the next step is given, and what is collected or None",
            )
        )
    return Body(carried, read, traced, given.values, given.data, Tree(found[0]), Tree(found[1]))


def vectorized(outputs: Sequence[Variable], batched: Mapping[Variable, Variable]) -> list[Variable]:
    """Return outputs for values with a leading axis; random draws upstream stay what they are."""
    outputs = _with_known_lengths(outputs)
    outputs = without_lookups(outputs, [*from_outside(outputs, batched), *batched])
    fixed = from_outside(outputs, batched)
    found = vectorize(outputs, {v: v for v in fixed} | dict(batched))
    return without_lookups(found, [*fixed, *batched.values()])


def from_outside(outputs: Sequence[Variable], placeholders: Iterable[Variable]) -> list[Variable]:
    """Return what outputs are computed from besides the placeholders of a step."""
    moving = set(placeholders)
    fixed: dict[Variable, None] = {}
    for node in toposort(outputs, blockers=list(moving)):
        if any(inp in moving for inp in node.inputs):
            moving.update(node.outputs)
            fixed |= {
                inp: None
                for inp in node.inputs
                if inp not in moving and not isinstance(inp.type, RandomType)
            }
    return list(fixed)


def _with_known_lengths(outputs: Sequence[Variable]) -> list[Variable]:
    """Return outputs in which the shapes that are known are constants.

    Otherwise a length that is computed from what changes would get an axis of its own, of a length
    that is not known before the graph is run, and which does not broadcast.
    """
    known = {
        node.outputs[0]: pt.constant(node.inputs[0].type.shape, dtype="int64")
        for node in toposort(outputs)
        if isinstance(node.op, Shape) and None not in node.inputs[0].type.shape
    }
    return graph_replace(list(outputs), known, strict=False) if known else list(outputs)


def over_time(
    outputs: Sequence[Variable], batched: Mapping[Variable, Variable], length: Any
) -> list[Variable]:
    """Return what a step computes for all steps at once, along a leading axis.

    Parameters
    ----------
    outputs : sequence of Variable
        Expressions of a step.
    batched : dict of Variable to Variable
        The values of its placeholders at all steps.
    length : int or Variable
        Number of steps.
    """
    outputs = without_named_dims([as_plain_tensor(output) for output in outputs])
    outputs = with_full_parameters(outputs, batched)
    found = vectorized(outputs, batched) if batched else outputs
    placeholders = set(batched)
    result = []
    for new, old in zip(found, outputs, strict=True):
        if not placeholders & set(ancestors([old])):
            if old.owner is not None and isinstance(old.owner.op, RNGConsumerOp):
                new = resized(old, (length,), expand=True)
            else:
                new = pt.broadcast_to(old, (length, *old.shape))
        result.append(new)
    return result


def with_full_parameters(
    outputs: Sequence[Variable], placeholders: Container[Variable] | None = None
) -> list[Variable]:
    """Return outputs whose draws have parameters of their own shape, and no size.

    PyTensor tells from the first parameter of a draw whether it gets a new axis, and would give
    one to a size that is computed from the shape of a placeholder.

    Parameters
    ----------
    outputs : sequence of Variable
        Expressions.
    placeholders : container of Variable, optional
        Only draws that depend on one of them are changed, and those that are outputs.
    """
    replaced: dict[Variable, Variable] = {}
    moving: set[Variable] = set()
    for node in toposort(outputs):
        if placeholders is None or any(inp in moving or inp in placeholders for inp in node.inputs):
            moving.update(node.outputs)
        # Draws from outside of the step stay what they are.
        own = any(output in moving or output in outputs for output in node.outputs)
        if not own or not isinstance(node.op, RandomVariable):
            continue
        draw = node.outputs[1]
        batch = draw.type.shape[: draw.ndim - node.op.ndim_supp]
        if isinstance(node.op.size_param(node).type, NoneTypeT) or None in batch:
            continue
        params = [
            pt.broadcast_to(p, (*batch, *(p.shape[p.ndim - n + i] for i in range(n))))
            for p, n in zip(node.op.dist_params(node), node.op.ndims_params, strict=True)
        ]
        new = node.op.make_node(node.op.rng_param(node), None, *params)
        replaced[draw] = pt.specify_shape(new.outputs[1], draw.type.shape)
        if draw in outputs:  # which is to stay a draw
            replaced[draw] = new.outputs[1]
    return graph_replace(list(outputs), replaced, strict=False) if replaced else list(outputs)
