"""``TraceEnum_ELBO``: discrete sites summed out exactly."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.graph.traversal import ancestors

from pymc_svi.enumeration.chains import collapsed
from pymc_svi.enumeration.factors import Factor, Factors, unsummed
from pymc_svi.enumeration.law import Law
from pymc_svi.enumeration.marking import is_enumerated, summed
from pymc_svi.enumeration.tables import Table, eliminate, product, total
from pymc_svi.errors import PairingError, SiteError, quoted, sentence
from pymc_svi.gradients.score_function import pathwise_or_score, uses_score_function
from pymc_svi.handlers import Site, Trace
from pymc_svi.handlers.core import Program
from pymc_svi.handlers.log_prob import as_plain_tensor
from pymc_svi.objectives.base import Loss
from pymc_svi.objectives.pairing import traces_of_pair
from pymc_svi.objectives.trace_elbo import Cost, Trace_ELBO, is_latent_term

__all__ = ["Sums", "TraceEnum_ELBO", "summed_out"]


class TraceEnum_ELBO(Trace_ELBO):
    r"""The negative evidence lower bound, with sums over discrete sites in the place of draws.

    Discrete sites of the model that the guide leaves out are summed out of the density,
    :math:`\log \sum_z p(x, z)`; those of the guide whose options say
    ``infer={"enumerate": "parallel"}`` (see :class:`config_enumerate`) are summed over in the
    expectation, :math:`\sum_z q(z) [\log p(x, z) - \log q(z)]`. Neither adds noise to the gradient.

    The sums factorise. Elements of a vector of sites are summed over one by one where the graph
    shows that no factor lets them meet, as labels of independent data; sites that depend on each
    other in a chain or a tree are summed out one after the other [1]_, at a cost that is linear in
    their number. What is not discrete is treated as in :class:`Trace_ELBO`.

    Parameters
    ----------
    num_particles : int, default 1
        Number of draws of the other sites that the estimate is averaged over.
    vectorize_particles : bool, default True
        Evaluate the draws as one batch, or one after the other with less memory.

    References
    ----------
    .. [1] Obermeyer et al. (2019), Tensor Variable Elimination for Plated Factor Graphs.

    Examples
    --------
    A mixture of two Normals, its labels summed out:

    >>> import numpy as np
    >>> import pymc as pm
    >>> from pymc_svi import SVI, TraceEnum_ELBO, optim
    >>> from pymc_svi.guides import AutoNormal
    >>> y = np.array([-2.1, -1.9, -2.0, 2.9, 3.1])
    >>> def model(y):
    ...     w = pm.Dirichlet("w", [1.0, 1.0])
    ...     mu = pm.Normal("mu", [-1.0, 1.0], 3.0)
    ...     z = pm.Categorical("z", w, shape=len(y))
    ...     pm.Normal("y", mu[z], 1.0, observed=y)
    >>> svi = SVI(model, AutoNormal(model), optim.Adam(0.02), TraceEnum_ELBO())
    >>> result = svi.run(2_000, y, random_seed=0, progressbar=False)
    >>> posterior = result.sample_posterior(200, random_seed=1).posterior
    >>> [int(round(m)) for m in posterior["mu"].mean(("chain", "draw")).values]
    [-2, 3]
    >>> bool((posterior["z"].mean(("chain", "draw")).values.round() == [0, 0, 0, 1, 1]).all())
    True
    """

    def __init__(self, num_particles: int = 1, vectorize_particles: bool = True):
        super().__init__(num_particles, vectorize_particles)

    def one_particle(self, model, guide, args, kwargs, weight) -> Loss:
        """Build the loss at one draw of the guide."""
        model_trace, guide_trace = traces_of_pair(
            model, guide, args, kwargs, draws=_summed_or_drawn, enumerate_missing=True
        )
        sums = Sums(model_trace, guide_trace)
        if not sums.factors.summed and not sums.chains:
            warnings.warn(
                "TraceEnum_ELBO found no site to sum out: the model has no discrete site that the "
                'guide leaves out, and no site of the guide has infer={"enumerate": "parallel"}. '
                "Trace_ELBO does the same.",
                UserWarning,
                stacklevel=2,
            )
        _check_drawn_sites(guide_trace)
        for factor in sums.of_model:
            sums.factors.check_scales(factor)
        costs = [Cost("model", site, site.log_prob, site.log_prob) for site in sums.plain_of_model]
        costs += super().costs(Trace(), _only(guide_trace, sums.plain_of_guide), None)
        costs += sums.costs()
        return self._loss_of(costs, guide_trace, weight)


class _summed_or_drawn(pathwise_or_score):
    """Give enumerated sites of a guide their variable, and draw the others."""

    def process_message(self, site: Site) -> None:
        _FOR_GUIDES.process_message(site)
        super().process_message(site)


_FOR_GUIDES = summed()


def _only(traced: Trace, sites) -> Trace:
    kept = Trace()
    for site in sites:
        kept.add(site)
    return kept


def _check_drawn_sites(guide_trace: Trace) -> None:
    """Refuse draws without derivative whose law depends on a site that is summed over."""
    placeholders = {
        site.infer["summed_over"]: name
        for name, site in guide_trace.latent.items()
        if is_enumerated(site)
    }
    for site in guide_trace.latent.values():
        if uses_score_function(site):
            above = set(ancestors([as_plain_tensor(site.dist)], blockers=list(placeholders)))
            for placeholder, name in placeholders.items():
                if placeholder in above:
                    raise PairingError(
                        sentence(
                            f"Site {site.name!r} of the guide is drawn without a derivative, and "
                            f"its law depends on {name!r}, which is summed over",
                            fix=f"Sum {site.name!r} out as well (infer={{'enumerate': "
                            "'parallel'}), or draw both",
                        )
                    )


def summed_out(model: Program, guide: Program, /, *args, **kwargs) -> Sums:
    """Run a pair of programs; return their sums."""
    traces = traces_of_pair(
        model, guide, args, kwargs, draws=_summed_or_drawn, enumerate_missing=True
    )
    return Sums(*traces, with_fields=True)


class ByElement(NamedTuple):
    """Log-probabilities of the elements of a site.

    Attributes
    ----------
    value : TensorVariable
        The log-probabilities.
    axes : tuple of int
        Which axes of the site its axes are; the elements along others belong together.
    """

    value: Variable
    axes: tuple[int, ...]


class Sums:
    """The factors of model and guide that depend on summed sites.

    Parameters
    ----------
    model_trace, guide_trace : Trace
        Of a run in which the sites to be summed over have a variable in the place of a value.
    with_fields : bool, default False
        Make the sums of chains differentiable by the log-probabilities of their states.
    """

    def __init__(self, model_trace: Trace, guide_trace: Trace, with_fields: bool = False):
        self.model_trace = model_trace
        self.factors = factors = Factors(guide_trace, model_trace)
        model_sites, self.chains = collapsed(model_trace.sites("sample", "factor"), with_fields)
        guide_sites = [s for s in guide_trace.sites("sample", "factor") if is_latent_term(s)]
        self.of_model = factors.of(model_sites)
        self.of_guide = factors.of(guide_sites)
        self.plain_of_model = unsummed(model_sites, self.of_model)
        self.plain_of_guide = unsummed(guide_sites, self.of_guide)
        self.guided = [n for n in factors.summed if n in guide_trace]
        self.unguided = [n for n in factors.summed if n not in guide_trace]
        factors.arrange(self.unguided, staying=self.guided)

    def costs(self) -> list[Cost]:
        """Return the terms of the loss."""
        q = {
            f.site.name: self.factors.table(f) for f in self.of_guide if f.site.name in self.guided
        }
        law = Law({name: q[name] for name in self.guided})
        costs = []
        for group in self._groups():
            names = [n for n in self.unguided if any(n in f.of for f in group)]
            tables = [self.factors.table(f) for f in group]
            left = eliminate(
                tables,
                self.factors.variables(names),
                self.factors.scales(names),
                others=self.factors.variables(self.guided),
            )
            value = pt.add(*(self._expected(t, law) for t in left), 0.0)
            costs.append(Cost("model", _named(group), value, value))
        for factor in self.of_guide:
            table = q.get(factor.site.name) or self.factors.table(factor)
            value = self._expected(table, law)
            costs.append(Cost("guide", factor.site, value, value))
        return costs

    def log_weight(self) -> Variable:
        """Return ``log p - log q`` with the discrete sites summed out."""
        plain = [site.log_prob.sum() for site in self.plain_of_model]
        plain += [-site.log_prob.sum() for site in self.plain_of_guide]
        return pt.add(*plain, *(-cost.signed() for cost in self.costs()), 0.0)

    def marginals(self) -> dict[str, Variable]:
        """Return the probabilities of the unguided sites: derivatives of the log-density."""
        if self.guided:
            raise PairingError(
                sentence(
                    "compute_marginals: the guide sums over sites of its own",
                    fix="Leave them out of the guide, or look at their probabilities there",
                )
            )
        fields, found = {}, {}
        chained = [site for site in self.plain_of_model if site.infer.get("chain") in self.chains]
        value: Variable = pt.add(*(site.value.sum() for site in chained), 0.0)
        for group in self._groups():
            tables = []
            for factor in group:
                table = self.factors.table(factor)
                if factor.site.name in self.unguided:
                    name = factor.site.name
                    first = table.variables.index(name)
                    shape = [
                        n if i == first or i >= len(table.variables) else 1
                        for i, n in enumerate(table.value.shape)
                    ]
                    fields[name] = pt.zeros(shape)
                    table = Table(
                        table.value + fields[name], table.variables, table.plates, table.scale
                    )
                tables.append(table)
            names = [n for n in self.unguided if any(n in f.of for f in group)]
            left = eliminate(tables, self.factors.variables(names), self.factors.scales(names))
            value = value + pt.add(*(t.summed_over_plates(()).value for t in left), 0.0)
        for name, field in fields.items():
            gradient = pytensor.grad(value, field)
            found[name] = self._as_probabilities(name, gradient)
        for chain in self.chains:
            found |= chain.probabilities(pytensor.grad(value, chain.field))
        return found

    def by_element(self) -> dict[str, ByElement]:
        """Return the log-probabilities of observed sites that depend on unguided ones.

        Without scales; those of the elements that are independent given everything that is not
        summed out.

        Raises
        ------
        SiteError
            If a sum has observed sites of which none can be told apart.
        """
        if chained := [c for c in self.chains if any(c.outer[n].observed for n in c.parts)]:
            names = [n for n in chained[0].parts if chained[0].outer[n].observed]
            raise SiteError(_not_by_element(names, chained[0].names, "all steps of a chain"))
        found = {}
        for group in self._groups():
            observed = [factor for factor in group if factor.site.observed]
            if not observed:
                continue
            names = [n for n in self.unguided if any(n in f.of for f in group)]
            if len(observed) > 1:
                sites = [factor.site.name for factor in observed]
                raise SiteError(_not_by_element(sites, names, "several observed sites"))
            [factor] = observed
            plate_of = self.factors.plates_of(factor)
            axes = tuple(sorted(plate_of))
            tables = [replace(self.factors.table(f), scale=1.0) for f in group]
            left = eliminate(tables, self.factors.variables(names), dict.fromkeys(names, 1.0))
            joint = product(left)
            shared = sorted(plate_of.values()) != sorted(joint.plates)
            single = all(factor.log_prob.type.broadcastable)
            if shared or not (axes or single):
                raise SiteError(_not_by_element([factor.site.name], names, "all elements"))
            order = [joint.plates.index(plate_of[axis]) for axis in axes]
            found[factor.site.name] = ByElement(joint.value.dimshuffle(*order), axes)
        return found

    def support_of(self, name: str) -> np.ndarray:
        """Return the values that a summed site can take."""
        for chain in self.chains:
            if name in chain.names:
                return chain.factors.summed[name].support
        return self.factors.summed[name].support

    def _as_probabilities(self, name: str, gradient: Variable) -> Variable:
        """Return probabilities of the values of each element, from those of the states."""
        s = self.factors.summed[name]
        plates = sorted(s.plates.items(), key=lambda item: item[1])
        own = [axis for axis, n in enumerate(gradient.type.broadcastable) if not n]
        states = gradient.squeeze() if len(own) < gradient.ndim else gradient
        states = states.reshape((s.n_states, *(s.shape[axis] for axis, _ in plates)))
        # (states, *plates) x (states, *inner, values) -> (*plates, *inner, values)
        indicators = (s.states[..., None] == s.support).astype(float)
        both = pt.tensordot(states, pt.constant(indicators), axes=[[0], [0]])
        axes_now = [axis for axis, _ in plates] + sorted(s.joint)
        singles = [axis for axis in range(len(s.shape)) if axis not in axes_now]
        order: list[Any] = []
        for axis in range(len(s.shape)):
            order.append("x" if axis in singles else axes_now.index(axis))
        return both.dimshuffle(*order, len(axes_now))

    def _groups(self) -> list[list[Factor]]:
        """Return the model's factors by which sites are summed out of them together."""
        groups: list[tuple[set[str], list[Factor]]] = []
        for factor in self.of_model:
            names = {n for n in factor.of if n in self.unguided}
            joined: tuple[set[str], list[Factor]] = (names, [factor])
            apart = []
            for other in groups:
                if names and other[0] & joined[0]:
                    joined = (other[0] | joined[0], other[1] + joined[1])
                else:
                    apart.append(other)
            groups = [*apart, joined]
        return [group for _, group in groups]

    def _expected(self, table: Table, q: Law) -> Variable:
        """Return the expectation of a table over the summed sites of the guide."""
        if not table.variables:
            return total(table)
        law = q.marginal(table.variables)
        variables = table.variables
        plates = tuple(sorted({*table.plates, *law.plates}))
        log_q, value = law.spread(variables, plates), table.spread(variables, plates)
        impossible = pt.eq(log_q, -np.inf)
        terms = pt.exp(log_q) * pt.switch(impossible, 0.0, value)
        summed_over = terms.sum(axis=list(range(len(variables))))
        return total(Table(summed_over, (), plates, table.scale))


def _not_by_element(observed: list[str], summed_names: list[str], shared: str) -> str:
    """Say that a sum is not one for each observation."""
    return sentence(
        f"The sum over {quoted(summed_names)} is shared by {shared} of {quoted(observed)}, whose "
        "log-probabilities cannot be told apart",
        fix=f"Pass samples of {quoted(summed_names)}, which result.sample_posterior() draws too",
    )


def _named(group: list[Factor]) -> Site:
    """Return the site whose name a group of factors has in messages: its data, if there are."""
    observed = [f.site for f in group if f.site.observed]
    return (observed or [f.site for f in group])[0]
