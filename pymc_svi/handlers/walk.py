"""Built models as programs: a model's variables are visited and offered to the handlers.

A function program emits its sites while it runs. A built :class:`pymc.Model` has already run,
so its variables are visited in the order they were created; each is rebuilt on the values that
the sites before it took, offered to the same handler stack, and what the handlers made of it
stands in the graphs of all that follow. The model itself is never changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pymc as pm
import pytensor.tensor as pt
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable
from pytensor.graph.replace import graph_replace
from pytensor.graph.traversal import ancestors

from pymc_svi.handlers.distributions import fitting_transform
from pymc_svi.handlers.frame import Frame, check_same_plate, checked_indices
from pymc_svi.handlers.imputation import is_partly_observed, no_density_of_its_own, observed_part
from pymc_svi.handlers.record import recall
from pymc_svi.handlers.site import Site
from pymc_svi.handlers.stack import apply_stack
from pymc_svi.handlers.statistics import as_predicted, next_of, set_next
from pymc_svi.handlers.values import as_site_value, as_tensor_variable

__all__ = ["PARAMS", "PARAM_TAG", "constant_dim_lengths", "scratch_model", "walk_model"]

# A param created while a model is built leaves its site on the tag of its variable.
PARAM_TAG = "pymc_svi_param"
# A built model lists its params by name, in this attribute.
PARAMS = "pymc_svi_params"


def constant_dim_lengths(model: pm.Model) -> dict[str, Variable]:
    """Return the length of each dim, as a constant where it is known now.

    Static shapes make smaller graphs and better errors. A length that follows from other
    variables stays an expression.
    """
    lengths = {}
    for name, length in model.dim_lengths.items():
        if isinstance(length, SharedVariable):
            length = pt.constant(int(length.get_value()), dtype="int64")
        lengths[name] = length
    return lengths


def scratch_model(*like: pm.Model | None, coords=None) -> pm.Model:
    """Return an empty model with the coords of others, which it does not register itself with.

    Parameters
    ----------
    *like : pymc.Model or None
        Models whose coords it gets; earlier ones win.
    coords : dict, optional
        Coords that win over those of the models.
    """
    scratch = pm.Model(model=None)
    for name, values in (coords or {}).items():
        length = pt.constant(len(values), dtype="int64")
        scratch.add_coord(name, values, length=length)
    for model in like:
        if model is None:
            continue
        for name, length in constant_dim_lengths(model).items():
            if name not in scratch.coords:
                scratch.add_coord(name, model.coords[name], length=length)
    return scratch


def walk_model(model: pm.Model) -> None:
    """Offer each variable of a built model to the active handlers."""
    with scratch_model(model):  # where a handler's own sites are registered
        _Walk(model).run()


class _Walk:
    def __init__(self, model: pm.Model):
        self.model = model
        lengths = constant_dim_lengths(model)
        # variable of the model -> what stands in its place
        self.memo: dict[Variable, Variable] = {
            model.dim_lengths[name]: length for name, length in lengths.items()
        }
        self.waiting: dict[Variable, str] = {var: var.name for var in self._sites_in_order()}
        # What a network keeps for itself -> what it becomes after the step.
        self.statistics = {v: new for v in self.waiting if (new := next_of(v)) is not None}
        self.given: list[bool] = []  # of each statistic, whether a handler gave its value
        self.observed = set(model.observed_RVs)
        self.kinds = {
            **dict.fromkeys(model.basic_RVs, "sample"),
            **dict.fromkeys(model.deterministics, "deterministic"),
            **dict.fromkeys(model.potentials, "factor"),
            **dict.fromkeys(model.data_vars, "data"),
        }

    def _sites_in_order(self) -> list[Variable]:
        named = list(self.model.named_vars.values())
        kept = [part for var in named for part in recall(var).variables()]
        params = [
            var
            for var in ancestors([*named, *self.model.rvs_to_values.values(), *kept])
            if hasattr(var.tag, PARAM_TAG)
        ]
        # Those that nothing depends on, too.
        unused = self.model.root.__dict__.get(PARAMS, {}).values() if self.model.isroot else ()
        params.extend(var for var in unused if var not in set(params))
        # A param comes before everything that can depend on it; among params, by creation.
        return sorted(params, key=lambda var: getattr(var.tag, PARAM_TAG).order) + named

    def run(self) -> None:
        self.visit_plates()
        for variable in list(self.waiting):
            if variable in self.waiting:
                self.visit(variable)
        if not self.predicts:
            for variable, new in self.statistics.items():
                set_next(self.memo[variable], self.rebuild(new))

    @property
    def predicts(self) -> bool:
        """Whether networks run on the statistics of a fit; params come before all else."""
        return bool(self.given) and all(self.given)

    def visit(self, variable: Variable) -> None:
        del self.waiting[variable]
        if hasattr(variable.tag, PARAM_TAG):
            site = apply_stack(getattr(variable.tag, PARAM_TAG).site())
            self.memo[variable] = as_tensor_variable(site.outcome)
            if variable in self.statistics:
                self.given.append(site.unconstrained is None)
            return
        kind = self.kinds.get(variable)
        if kind is None:
            return
        site = self._sample(variable) if kind == "sample" else self._other(kind, variable)
        self._recall(variable, site)
        apply_stack(site)
        outcome = site.outcome
        if outcome is not variable:
            outcome = as_site_value(outcome, variable, site.name, site.dims)
        self.memo[variable] = outcome

    def visit_plates(self) -> None:
        """Offer each plate before the sites inside, and put its indices in place."""
        seen: dict[str, Frame] = {}
        for variable in self.model.named_vars.values():
            for frame in reversed(recall(variable).plates):
                if frame.name in seen:
                    check_same_plate(seen[frame.name], frame)
                    continue
                seen[frame.name] = frame
                site = Site("plate", frame.name, value=frame.indices, plates=(frame,))
                apply_stack(site)
                if isinstance(frame.indices, Variable):
                    value = as_tensor_variable(checked_indices(site.outcome, frame))
                    self.memo[frame.indices] = as_site_value(value, frame.indices, site.name)

    def _recall(self, variable: Variable, site: Site) -> None:
        """Give a site what its variable remembers and PyMC does not."""
        record = recall(variable)
        site.scale = self._rebuilt(record.scale)
        site.mask = self._rebuilt(record.mask)
        site.infer = {**record.infer, **site.infer}
        site.plates = tuple(
            replace(frame, indices=self._rebuilt(frame.indices)) for frame in record.plates
        )
        site.dims = site.dims or record.dims
        site.event_dim = record.event_dim
        if site.log_density is None and record.log_density is not None:
            site.log_density = self.rebuild(record.log_density)

    def _rebuilt(self, value):
        return self.rebuild(value) if isinstance(value, Variable) else value

    def _sample(self, rv: Variable) -> Site:
        model = self.model
        data = recall(rv).observed
        observed = rv in self.observed or data is not None
        dist = self.rebuild(rv)
        value = None
        if observed:
            value = self.rebuild(model.rvs_to_values[rv] if data is None else data)

        def default(site: Site) -> None:
            if site.value is None:
                site.value = site.dist

        if observed and is_partly_observed(rv):
            return observed_part(dist, value, self._join(rv))
        site = Site(
            "sample",
            rv.name,
            dist=dist,
            value=value,
            observed=observed,
            dims=model.named_vars_to_dims.get(rv.name),
            transform=None if observed else fitting_transform(rv, model.rvs_to_transforms[rv]),
            initval=None if observed else model.rvs_to_initial_values.get(rv),
            default=default,
            resolve=self.rebuild,
        )
        if is_partly_observed(rv):
            site.log_density = no_density_of_its_own()
            site.part_of = rv.name.removesuffix("_unobserved")
        return site

    def _join(self, observed_rv: Variable) -> Callable[[Variable], Variable]:
        """Return what joins a value of the observed part of a draw with the missing part's."""
        [parts] = self.model[observed_rv.name.removesuffix("_observed")].owner.inputs[:1]
        whole = observed_rv.owner.inputs[0]
        for variable in ancestors([parts], blockers=[whole, observed_rv]):
            if variable in self.waiting and variable is not observed_rv:
                self.visit(variable)
        values = {v: self.memo[v] for v in ancestors([parts]) if v in self.memo}
        return lambda value: graph_replace(parts, {**values, observed_rv: value}, strict=False)

    def _other(self, kind, variable: Variable) -> Site:
        value = variable if kind == "data" else self.rebuild(variable)
        dims = self.model.named_vars_to_dims.get(variable.name)
        return Site(kind, variable.name, value=value, dims=dims)

    def rebuild(self, target: Variable) -> Variable:
        """Return a variable's graph on the values of the sites it depends on.

        Each node of the model is visited once in the whole walk, so that walking is linear in
        the size of the model; without recursion, so that it is not limited in depth.
        """
        memo = self.memo
        pending = [] if target in memo else [target]
        while pending:
            variable = pending[-1]
            node = variable.owner
            if variable in memo:
                pending.pop()
            elif variable in self.waiting:
                self.visit(variable)  # created later than the target, which depends on it
            elif node is None:
                memo[variable] = variable
            elif missing := [inp for inp in node.inputs if inp not in memo]:
                pending.extend(missing)
            else:
                inputs = [memo[inp] for inp in node.inputs]
                if self.predicts and (predicted := as_predicted(node, inputs)) is not None:
                    memo.update(zip(node.outputs, predicted, strict=True))
                    continue
                outputs = node.outputs
                if any(new is not old for new, old in zip(inputs, node.inputs, strict=True)):
                    outputs = node.clone_with_new_inputs(inputs, strict=False).outputs
                for old, new in zip(node.outputs, outputs, strict=True):
                    if old not in self.waiting:
                        new.name = old.name
                        memo.setdefault(old, new)
        return memo[target]
