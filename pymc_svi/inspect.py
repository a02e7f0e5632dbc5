"""Looking at programs: densities at a point, what depends on what, a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytensor.graph.basic import Constant, Variable

from pymc_svi.errors import SiteError, quoted, sentence
from pymc_svi.handlers import Site, Trace, substitute, trace
from pymc_svi.handlers.core import Program
from pymc_svi.handlers.dependence import direct_parents
from pymc_svi.handlers.values import Drawn, describe_shape

__all__ = ["compute_log_probs", "get_dependencies", "log_density", "render_model"]

_MODE = "FAST_COMPILE"  # evaluated once


def log_density(
    program: Program,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    values: Mapping[str, Any] | None = None,
    *,
    params: Mapping[str, Any] | None = None,
) -> tuple[Any, Trace]:
    """Return the log joint density of a program at a point, and the trace there.

    Parameters
    ----------
    program : callable or pymc.Model
        The program.
    args, kwargs
        Its arguments.
    values : dict of str to array_like
        A value for each latent site, in the site's own space; values of params are optional.
    params : dict of str to array_like, optional
        More of them: ``values`` and ``params`` are one, of which NumPyro has the second name.

    Returns
    -------
    float or Variable
        The density: a number where the values are numbers, else an expression.
    Trace
        The trace at these values.

    Raises
    ------
    SiteError
        If a latent site has no value.
    ValueError
        If ``values`` and ``params`` have a name in common.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi.inspect import log_density
    >>> def model():
    ...     weight = pm.Normal("weight", 8.5, 1.0)
    ...     pm.Normal("measurement", weight, 0.75, observed=9.5)
    >>> density, _ = log_density(model, values={"weight": 8.23})
    >>> round(float(density), 6)
    -3.020334
    """
    values = _together(values, params)
    run = _trace_at(program, args, kwargs, values)
    total = run.log_prob_sum()
    return (total if _is_symbolic(values) else Drawn.of(total.eval(mode=_MODE))), run


def compute_log_probs(
    program: Program,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    values: Mapping[str, Any] | None = None,
    sum_log_prob: bool = True,
    *,
    params: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], Trace]:
    """Return the log-probability of each sample and factor site at a point, and the trace there.

    Parameters
    ----------
    program, args, kwargs, values
        As for :func:`log_density`.
    sum_log_prob : bool, default True
        Sum over the elements of a site.
    params : dict of str to array_like, optional
        More values.

    Returns
    -------
    dict of str to float or Variable
        The log-probabilities by name.
    Trace
        The trace.

    Raises
    ------
    SiteError
        If a latent site has no value.
    ValueError
        If ``values`` and ``params`` have a name in common.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi.inspect import compute_log_probs
    >>> def model():
    ...     x = pm.Normal("x")
    ...     pm.Normal("y", x, 1.0, observed=1.0)
    >>> {k: round(float(v), 3) for k, v in compute_log_probs(model, values={"x": 0.0})[0].items()}
    {'x': -0.919, 'y': -1.419}
    """
    values = _together(values, params)
    run = _trace_at(program, args, kwargs, values)
    found = {}
    for site in run.sites("sample", "factor"):
        value = site.log_prob.sum() if sum_log_prob else site.log_prob
        found[site.name] = value if _is_symbolic(values) else value.eval(mode=_MODE)
    return found, run


def _together(*given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the values of sites and those of params as one."""
    values, params = (dict(each or {}) for each in given)
    if twice := values.keys() & params.keys():
        raise ValueError(
            sentence(
                f"log_density: values and params both have {quoted(sorted(twice))}",
                fix="Leave it out of one",
            )
        )
    return {**values, **params}


def _is_symbolic(values: Mapping[str, Any] | None) -> bool:
    return any(
        isinstance(value, Variable) and not isinstance(value, Constant)
        for value in (values or {}).values()
    )


def _trace_at(program, args, kwargs, values) -> Trace:
    values = dict(values or {})
    run = trace(substitute(program, data=values)).get_trace(*args, **(kwargs or {}))
    missing = [name for name in run.latent if name not in values]
    if missing:
        raise SiteError(
            sentence(
                f"log_density: latent sites have no value: {quoted(missing)}",
                found=f"values for {quoted(values)}",
                fix="Give each a value, or condition the program on data",
            )
        )
    return run


def get_dependencies(
    program: Program,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
) -> dict[str, dict[str, dict[str, set[str]]]]:
    """Return which sample sites depend on which, a priori and given the data.

    Parameters
    ----------
    program : callable or pymc.Model
        The program.
    args, kwargs
        Its arguments.

    Returns
    -------
    dict
        ``"prior_dependencies"``: for each site the latent sites its law depends on directly (and
        itself). ``"posterior_dependencies"``: for each latent site the sites it is coupled to
        given the data: its children and, through a common child, sites after it. The innermost
        values are sets of plates along which elements of two sites are coupled with each other.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import plate
    >>> from pymc_svi.inspect import get_dependencies
    >>> def model():
    ...     with plate("p", 5):
    ...         a = pm.Normal("a")
    ...     pm.Normal("b", a.sum(), 1.0, observed=0.0)
    >>> found = get_dependencies(model)
    >>> found["prior_dependencies"]
    {'a': {'a': set()}, 'b': {'a': set(), 'b': set()}}
    >>> found["posterior_dependencies"]
    {'a': {'a': {'p'}, 'b': set()}}
    """
    run = trace(program).get_trace(*args, **(kwargs or {}))
    sites = [site for site in run.sites("sample", "factor")]
    parents = direct_parents(sites, run.latent.values())
    plates = {site.name: {frame.name for frame in site.plates} for site in sites}
    order = {site.name: i for i, site in enumerate(sites)}
    latent = run.latent
    prior: dict[str, dict[str, set[str]]] = {
        name: {**{parent: set() for parent in upstream}, name: set()}
        for name, upstream in parents.items()
    }
    posterior: dict[str, dict[str, set[str]]] = {name: {name: set()} for name in latent}
    for child, upstream in prior.items():
        for first in upstream:
            if first not in latent:
                continue
            posterior[first].setdefault(child, set())
            for second in upstream:
                if order[second] < order[first] or second not in latent:
                    continue
                coupled = plates[first] & plates[second] - plates[child]
                posterior[first].setdefault(second, set()).update(coupled)
    return {"prior_dependencies": prior, "posterior_dependencies": posterior}


def render_model(
    model: Program,
    guide: Program | None = None,
    model_args: Sequence[Any] = (),
    model_kwargs: Mapping[str, Any] | None = None,
    *,
    filename: str | None = None,
    render_params: bool = True,
):
    """Draw a program, or a model and its guide side by side, with plates and params.

    Latent sites are white, observed ones grey, deterministics dashed, factors and params boxes.

    Parameters
    ----------
    model : callable or pymc.Model
        The model.
    guide : callable or pymc.Model, optional
        The guide.
    model_args, model_kwargs
        Arguments of both.
    filename : str, optional
        Render to this file (``model.svg``); needs the Graphviz programs.
    render_params : bool, default True
        Draw params.

    Returns
    -------
    graphviz.Digraph
        Shown as a picture in notebooks; its ``source`` is the DOT text.

    Raises
    ------
    ImportError
        If the package graphviz is not installed.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi.inspect import render_model
    >>> def model():
    ...     x = pm.Normal("x")
    ...     pm.Normal("y", x, 1.0, observed=1.0)
    >>> graph = render_model(model)  # a picture in a notebook
    >>> '"model/x" -> "model/y"' in graph.source
    True
    """
    try:
        import graphviz
    except ImportError as error:
        raise ImportError(
            sentence(
                "render_model needs the package graphviz", fix="Install it: pip install graphviz"
            )
        ) from error
    graph = graphviz.Digraph()
    graph.attr(rankdir="TB", compound="true")
    sides = {"model": model} if guide is None else {"model": model, "guide": guide}
    for side, program in sides.items():
        run = trace(program).get_trace(*model_args, **(model_kwargs or {}))
        with graph.subgraph(name=f"cluster_{side}" if guide is not None else None) as part:
            if guide is not None:
                part.attr(label=side, style="rounded")
            _draw(part, run, side, render_params)
    if filename is not None:
        stem, _, kind = filename.rpartition(".")
        graph.render(stem or filename, format=kind or "pdf", cleanup=True)
    return graph


_LOOKS = {
    "latent": {"shape": "ellipse"},
    "observed": {"shape": "ellipse", "style": "filled", "fillcolor": "lightgrey"},
    "deterministic": {"shape": "ellipse", "style": "dashed"},
    "factor": {"shape": "box", "style": "filled", "fillcolor": "lightgrey"},
    "param": {"shape": "box"},
    "data": {"shape": "box", "style": "rounded, filled", "fillcolor": "lightgrey"},
}


def _draw(part, run: Trace, side: str, render_params: bool) -> None:
    drawn = {
        name: site
        for name, site in run.items()
        if site.type != "plate" and (render_params or site.type != "param")
    }
    groups: dict[tuple[Any, ...], list[Site]] = {}
    for site in drawn.values():
        groups.setdefault(tuple(frame.name for frame in site.plates), []).append(site)
    sizes = {f.name: f for site in drawn.values() for f in site.plates}

    def draw_level(graph, prefix):
        for site in groups.get(prefix, ()):
            kind = site.type
            if kind == "sample":
                kind = "observed" if site.observed else "latent"
            label = f"{site.name}\\n{_law(site)}" if site.dist is not None else site.name
            graph.node(f"{side}/{site.name}", label=label, **_LOOKS[kind])
        deeper = {
            key[len(prefix)]
            for key in groups
            if len(key) > len(prefix) and key[: len(prefix)] == prefix
        }
        for name in sorted(deeper):
            frame = sizes[name]
            size = f"{frame.subsample_size} of {frame.size}" if frame.is_subsampled else frame.size
            with graph.subgraph(name=f"cluster_{side}/{'/'.join((*prefix, name))}") as inner:
                inner.attr(label=f"{name}: {size}", labeljust="r", labelloc="b", style="rounded")
                draw_level(inner, (*prefix, name))

    draw_level(part, ())
    for name, parents in direct_parents(drawn.values(), drawn.values()).items():
        for parent in parents:
            part.edge(f"{side}/{parent}", f"{side}/{name}")


def _law(site: Site) -> str:
    """Return the name of a site's distribution, with its shape."""
    op = site.dist.owner.op
    name = getattr(op, "_print_name", (type(op).__name__.removesuffix("RV"),))[0]
    shape = describe_shape(site.shape, site.dims)
    return name if shape == "()" else f"{name} {shape}"
