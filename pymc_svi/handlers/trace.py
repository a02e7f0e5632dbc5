"""``trace``: record the sites of one run of a program."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import pymc as pm
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from pymc_svi.errors import SiteError, did_you_mean, quoted, sentence
from pymc_svi.handlers.core import Handler, built_model, run_program
from pymc_svi.handlers.dependence import direct_parents
from pymc_svi.handlers.frame import Frame, check_same_plate
from pymc_svi.handlers.site import Site
from pymc_svi.handlers.values import describe_shape
from pymc_svi.handlers.walk import scratch_model

__all__ = ["Trace", "trace"]

_SITES = "The sites before it were:"


class Trace(Mapping[str, Site]):
    """The sites of one run of a program, by name, in the order they were created.

    Attributes
    ----------
    model : pymc.Model or None
        The model in whose context the program ran; it knows the coords of the dims.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> def program():
    ...     x = pm.Normal("x", 0.0, 1.0)
    ...     pm.Normal("y", x, 1.0, observed=0.5)
    >>> with handlers.condition(data={"x": 0.0}):
    ...     tr = handlers.trace(program).get_trace()
    >>> list(tr)
    ['x', 'y']
    >>> tr["x"].observed, tr["y"].observed
    (True, True)
    >>> round(float(tr.log_prob_sum().eval()), 4)
    -1.9629
    """

    def __init__(self) -> None:
        self._sites: dict[str, Site] = {}
        self.model: pm.Model | None = None

    def __getitem__(self, name: str) -> Site:
        return self._sites[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sites)

    def __len__(self) -> int:
        return len(self._sites)

    def __repr__(self) -> str:
        return f"Trace({', '.join(f'{site.type} {name}' for name, site in self.items())})"

    def add(self, site: Site) -> None:
        """Record a site.

        Parameters
        ----------
        site : Site
            The site.

        Raises
        ------
        SiteError
            If another site has its name. One ``param`` may be read several times, and one plate
            entered several times.
        """
        known = self._sites.get(site.name)
        if known is not None and known.type == site.type == "plate":
            check_same_plate(_frame(known), _frame(site))
        elif known is not None and not (known.type == site.type == "param"):
            raise SiteError(
                sentence(
                    f"Two sites are called {site.name!r}: a {known.type} and a {site.type}",
                    fix="Rename one of them",
                )
            )
        self._sites[site.name] = site
        site.drawn = self._drawn

    def _drawn(self) -> list[Variable]:
        """Return the values that the laws of other sites are conditioned on."""
        return [site.value for site in self.values() if site.is_latent]

    def sites(self, *types: str, where: Callable[[Site], bool] | None = None) -> list[Site]:
        """Return the sites of the given types, all without any, for which ``where`` is True.

        Parameters
        ----------
        *types : str
            Types of sites.
        where : callable, optional
            Called with a site.

        Returns
        -------
        list of Site
            The sites in their order.
        """
        return [
            site
            for site in self.values()
            if (not types or site.type in types) and (where is None or where(site))
        ]

    @property
    def latent(self) -> dict[str, Site]:
        """The unobserved ``sample`` sites."""
        return {name: site for name, site in self.items() if site.is_latent}

    @property
    def observed(self) -> dict[str, Site]:
        """The observed ``sample`` sites."""
        return {name: s for name, s in self.items() if s.type == "sample" and s.observed}

    @property
    def params(self) -> dict[str, Site]:
        """The ``param`` sites."""
        return {name: site for name, site in self.items() if site.type == "param"}

    @property
    def edges(self) -> list[tuple[str, str]]:
        """Pairs of a site and one that is computed from it directly, not through a third.

        They are read off the graph of values: an intervention by ``do`` cuts the edges out of
        its site, and a value that is a number drawn by ``seed`` has none.

        Examples
        --------
        >>> import pymc as pm
        >>> from pymc_svi import handlers, param
        >>> def program():
        ...     x = pm.Normal("x", param("loc", 0.0), 1.0)
        ...     twice = pm.Deterministic("twice", 2 * x)
        ...     pm.Normal("y", twice, 1.0, observed=0.5)
        >>> tr = handlers.trace(program).get_trace()
        >>> tr.edges
        [('loc', 'x'), ('x', 'twice'), ('twice', 'y')]
        >>> tr.predecessors("y"), tr.successors("x")
        (['twice'], ['twice'])
        """
        parents = direct_parents(self.values(), self.values())
        return [(parent, child) for child, found in parents.items() for parent in found]

    def predecessors(self, name: str) -> list[str]:
        """Return the sites that a site is computed from directly.

        Parameters
        ----------
        name : str
            Name of the site.

        Returns
        -------
        list of str
            Their names.
        """
        return direct_parents([self._known(name)], self.values())[name]

    def successors(self, name: str) -> list[str]:
        """Return the sites that are computed from a site directly.

        Parameters
        ----------
        name : str
            Name of the site.

        Returns
        -------
        list of str
            Their names.
        """
        self._known(name)
        return [child for parent, child in self.edges if parent == name]

    def _known(self, name: str) -> Site:
        if name not in self:
            raise SiteError(
                sentence(f"The trace has no site {name!r}", found=f"the sites {quoted(self)}")
                + did_you_mean(name, self)
            )
        return self[name]

    def log_prob_sum(self, site_filter: Callable[[Site], bool] | None = None) -> Variable:
        """Sum of the log-probabilities of the sites, scaled and masked, as an expression.

        Parameters
        ----------
        site_filter : callable, optional
            Only sites for which it returns True are counted.

        Returns
        -------
        Variable
            A scalar.
        """
        terms = [
            self._log_prob_of(site).sum()
            for site in self.sites("sample", "factor")
            if site_filter is None or site_filter(site)
        ]
        return pt.add(*terms) if len(terms) > 1 else (terms or [pt.constant(0.0)])[0]

    def _log_prob_of(self, site: Site) -> Variable:
        try:
            return site.log_prob
        except Exception as error:
            error.add_note(f"This happened at the log-probability of site {site.name!r}.")
            raise

    def format_shapes(self, *, log_prob: bool = True) -> str:
        """Return a table of the sites: type, name, shape of value, shape of log-probability.

        Parameters
        ----------
        log_prob : bool, default True
            Include the shapes of the log-probabilities.

        Returns
        -------
        str
            The table, with a line for each site.

        Examples
        --------
        >>> import pymc as pm
        >>> from pymc_svi import handlers
        >>> def program():
        ...     z = pm.Normal("z", shape=3)
        ...     pm.MvNormal("y", z, cov=[[1.0, 0, 0], [0, 1, 0], [0, 0, 1]], observed=[0.0, 0, 0])
        >>> print(handlers.trace(program).get_trace().format_shapes())
        site  type      value  log_prob
        z     sample    (3,)   (3,)
        y     observed  (3,)   ()
        """
        rows: list[tuple[str, ...]] = [("site", "type", "value", "log_prob")]
        for name, site in self.items():
            kind = "observed" if site.type == "sample" and site.observed else site.type
            scored = ""
            if log_prob and site.type in ("sample", "factor"):
                scored = describe_shape(site.log_prob.type.shape)
            rows.append((name, kind, describe_shape(site.shape, site.dims), scored))
        if not log_prob:
            rows = [row[:-1] for row in rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ("  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in rows)
        return "\n".join(line.rstrip() for line in lines)


def _frame(site: Site) -> Frame:
    return replace(site.plates[0], name=site.name, indices=site.value)


class trace(Handler):
    """Record the sites that a program emits.

    Parameters
    ----------
    program : callable or pymc.Model, optional
        The program to trace.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> with pm.Model() as model:
    ...     x = pm.Normal("x")
    ...     y = pm.Normal("y", x, observed=1.0)
    >>> tr = handlers.trace(model).get_trace()
    >>> {name: site.observed for name, site in tr.items()}
    {'x': False, 'y': True}

    As a context manager it gives the trace, which fills while the program runs:

    >>> def program():
    ...     pm.Normal("x")
    >>> with handlers.trace() as tr, handlers.condition(data={"x": 2.0}), pm.Model():
    ...     program()
    >>> float(tr["x"].value.eval())
    2.0
    """

    def __enter__(self) -> Trace:  # type: ignore[override]
        super().__enter__()
        self.trace = Trace()
        return self.trace

    def postprocess_message(self, site: Site) -> None:
        """Record the site."""
        if self.trace.model is None:
            self.trace.model = pm.Model.get_context(error_if_none=False)
        self.trace.add(site)

    def get_trace(self, *args, **kwargs) -> Trace:
        """Run the program and return its trace.

        It runs in an empty model of its own, with the coords of the model context around it, and
        those of the built model that it is, or is a guide of.

        Parameters
        ----------
        *args, **kwargs
            Arguments of the program.

        Returns
        -------
        Trace
            The trace.

        Raises
        ------
        TypeError
            If there is no program.
        """
        if self.program is None:
            raise TypeError(
                sentence("trace has no program", fix="Use trace(program).get_trace(*args)")
            )
        context = pm.Model.get_context(error_if_none=False)
        built = built_model(self.program)
        with trace() as recorded, scratch_model(context, built) as scratch:
            recorded.model = scratch
            try:
                run_program(self.program, *args, **kwargs)
            except Exception as error:
                said = any(n.startswith(_SITES) for n in getattr(error, "__notes__", ()))
                if recorded and not said:
                    error.add_note(f"{_SITES}\n{recorded.format_shapes(log_prob=False)}")
                raise
        return recorded
