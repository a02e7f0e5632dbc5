"""Whether a guide fits its model: the sites of both, their types, shapes, dims and supports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytensor.graph.basic import Apply, Variable
from pytensor.graph.traversal import ancestors, applys_between
from pytensor.scan.op import Scan
from pytensor.tensor.random.type import RandomType

from pymc_svi.config import complain
from pymc_svi.enumeration.marking import is_enumerated
from pymc_svi.enumeration.supports import has_finite_support
from pymc_svi.errors import PairingError, did_you_mean, quoted, sentence
from pymc_svi.gradients.score_function import pathwise_or_score
from pymc_svi.handlers import Handler, Site, Trace
from pymc_svi.handlers.core import Program, built_model
from pymc_svi.handlers.distributions import is_distribution
from pymc_svi.handlers.log_prob import as_plain_tensor
from pymc_svi.handlers.values import describe_shape, known_shape
from pymc_svi.objectives.support import support_mismatch

__all__ = [
    "check_factors",
    "check_loops",
    "check_order",
    "check_same_labels",
    "check_same_latents",
    "check_site_pair",
    "check_total_sizes",
]


def check_same_labels(model: Program, guide: Program) -> None:
    """Check that dims of two built models mean the same: an element of one is that of the other."""
    models = built_model(model), built_model(guide)
    if None in models or models[0] is models[1]:
        return
    ours, theirs = ({d: c for d, c in m.coords.items() if c is not None} for m in models if m)
    for dim in ours:
        one, other = ours[dim], theirs.get(dim, ours[dim])
        if len(one) == len(other) and not all(a == b for a, b in zip(one, other, strict=True)):
            complain(
                sentence(
                    f"Dim {dim!r} has other labels in the model than in the guide",
                    found=f"{_first_labels(one)} in the model, {_first_labels(other)} in the guide",
                    expected="the same labels in the same order: elements are paired by position",
                    fix="Give both the same coords, or the dim of the guide another name",
                ),
                PairingError,
            )


def _first_labels(labels: Sequence) -> str:
    shown = [str(label) for label in labels[:4]]
    return ", ".join([*shown, "..."] if len(labels) > 4 else shown)


def check_site_pair(model_site: Site, guide_site: Site) -> None:
    """Check that a guide's site can stand for the model's site of the same name."""
    name = model_site.name
    if guide_site.type != "sample":
        raise PairingError(
            sentence(
                f"Site {name!r} is sampled in the model but is a {guide_site.type} in the guide",
                fix="Sample it in the guide, or rename one of them",
            )
        )
    _check_dtype(name, model_site, guide_site)
    _check_shape(name, model_site, guide_site)
    _check_event_dims(model_site, guide_site)
    if guide_site.log_density is None:  # else the draw was made in the model's own support
        mismatch = support_mismatch(model_site, guide_site.dist)
        if mismatch:
            # Laws on the real line have no transform but one of the user's.
            chosen = guide_site.transform is not None and mismatch.endswith("line in the guide")
            complain(
                sentence(
                    f"Site {name!r} has a smaller support in the model than in the guide",
                    found=mismatch + "; a transform does not move draws" * chosen,
                    fix="Give the guide a distribution on the model's support, or leave the site to an "
                    "automatic guide, which draws in unconstrained space: "
                    f"AutoNormal(handlers.block(model, expose=[{name!r}])) and the other guide, as "
                    "parts of an AutoGuideList",
                ),
                PairingError,
            )


def _check_dtype(name: str, model_site: Site, guide_site: Site) -> None:
    model_dtype, guide_dtype = (
        as_plain_tensor(v).type.dtype for v in (model_site.dist, guide_site.value)
    )
    if model_dtype.startswith("float") != guide_dtype.startswith("float"):
        kinds = {True: "continuous", False: "discrete"}
        raise PairingError(
            sentence(
                f"Site {name!r} is {kinds[model_dtype.startswith('float')]} in the model and "
                f"{kinds[guide_dtype.startswith('float')]} in the guide",
                found=f"dtype {model_dtype} in the model, {guide_dtype} in the guide",
                fix="Use distributions of the same kind on both sides",
            )
        )


def _check_shape(name: str, model_site: Site, guide_site: Site) -> None:
    model_dims, guide_dims = model_site.dims, guide_site.dims
    model_shape = known_shape(model_site.dist)
    guide_shape = known_shape(guide_site.value)
    sides = (
        f"{describe_shape(model_shape, model_dims)} in the model, "
        f"{describe_shape(guide_shape, guide_dims)} in the guide"
    )
    if model_shape != guide_shape:
        what = f"Site {name!r} has different shapes in model and guide"
        if len(model_shape) == len(guide_shape):
            dims = model_dims or guide_dims or (None,) * len(model_shape)
            for dim, n_model, n_guide in zip(dims, model_shape, guide_shape, strict=True):
                if dim is not None and n_model != n_guide:
                    what = (
                        f"Site {name!r}: dim {dim!r} has {n_model} in the model, "
                        f"{n_guide} in the guide"
                    )
                    break
        raise PairingError(
            sentence(what, found=sides, fix="Give the guide's site the shape of the model's")
        )
    if model_dims and guide_dims and tuple(model_dims) != tuple(guide_dims):
        complain(
            sentence(
                f"Site {name!r} has different dims in model and guide",
                found=sides,
                fix="Use the same dims in the same order, or leave them out of the guide",
            ),
            PairingError,
        )


def _check_event_dims(model_site: Site, guide_site: Site) -> None:
    """Report vectors against independent numbers: often meant, so that only who asks is told."""
    sites = (model_site, guide_site)
    if not all(is_distribution(site.dist) for site in sites):
        return
    ndims = [site.event_ndim for site in sites]
    if ndims[0] != ndims[1]:
        complain(
            sentence(
                f"Site {model_site.name!r}: model and guide disagree on how many of its dimensions "
                "make one value",
                found=f"{ndims[0]} in the model, {ndims[1]} in the guide, of "
                f"{as_plain_tensor(model_site.dist).ndim}",
                fix="Use a multivariate distribution on both sides, or on none",
            ),
            PairingError,
            default="off",
        )


def check_factors(guide_trace: Trace, draws: type[Handler]) -> None:
    """Check that the guide's factors say whether its draws are differentiable."""
    for site in guide_trace.sites("factor"):
        differentiable = site.infer.get("has_rsample")
        if differentiable is None:
            complain(
                sentence(
                    f"Factor {site.name!r} of the guide does not say whether it is the log-density "
                    "of differentiable draws",
                    fix=f"Write factor({site.name!r}, ..., has_rsample=True), or False where the "
                    "gradient needs the score function",
                ),
                PairingError,
            )
        if differentiable is False and not issubclass(draws, pathwise_or_score):
            raise PairingError(
                sentence(
                    f"Factor {site.name!r} of the guide has has_rsample=False, and this objective "
                    "needs differentiable draws",
                    fix="Use Trace_ELBO()",
                )
            )


def check_order(model_trace: Trace, guide_trace: Trace) -> None:
    """Say so if model and guide seem to be given in the order guide, model."""
    observed = [
        [name for name, site in traced.items() if site.type == "sample" and site.observed]
        for traced in (model_trace, guide_trace)
    ]
    if observed[1] and not observed[0] and not model_trace.sites("factor"):
        complain(
            sentence(
                f"The guide observes data, {quoted(observed[1])}, and the model observes none",
                fix="The model comes first: SVI(model, guide)",
            ),
            PairingError,
            default="warn",
        )


def check_total_sizes(*traces: Trace) -> None:
    """Check that no latent site has a ``total_size``, which weights what is observed only."""
    for traced in traces:
        for name, site in traced.latent.items():
            if (size := site.infer.get("total_size")) is not None:
                raise PairingError(
                    sentence(
                        f"Site {name!r} has a total_size but is not observed: its density would not "
                        "be weighted",
                        found=f"total_size={size}",
                        fix="Put it into plate(name, size, subsample_size=...), or leave total_size "
                        "out and let a Trainer with a DataLoader weight the rows of its batches",
                    )
                )


def check_same_latents(model_trace: Trace, guide_trace: Trace) -> None:
    """Check that model and guide have the same latent sites."""
    model_latents, guide_latents = model_trace.latent, guide_trace.latent
    missing = [
        name
        for name, site in model_latents.items()
        if name not in guide_trace and not is_enumerated(site)
    ]
    extra = [
        name
        for name, site in guide_latents.items()
        if name not in model_latents and not site.infer.get("is_auxiliary")
    ]
    doubtful = [
        n for n, s in guide_latents.items() if s.infer.get("is_auxiliary") and n in model_trace
    ]
    if doubtful:
        complain(
            sentence(
                f"The guide marks sites as auxiliary that the model has too: {quoted(doubtful)}",
                fix="Rename them, or leave the mark out",
            ),
            PairingError,
            default="warn",
        )
    if missing:
        _complain_of_missing(missing, extra, model_trace, guide_latents)
    if extra:
        _complain_of_extra(extra, model_trace)


def _complain_of_missing(
    missing: list[str],
    extra: list[str],
    model_trace: Trace,
    guide_latents: Mapping[str, Site],
) -> None:
    hint = did_you_mean(missing[0], extra)
    fixed = [name for name in missing if model_trace[name].value is not model_trace[name].dist]
    if not hint and fixed:
        hint = f" {quoted(fixed)} got a value, as by handlers.substitute, but stayed latent."
        hint += " handlers.condition makes data of it."
    elif not hint and not any(map(model_trace.successors, missing)):  # no data depend on them
        names = [str(name) for name in missing]
        hint = f" If predictions, leave them out: handlers.block(model, hide={names})."
    them = "it" if len(missing) == 1 else "them"
    sum_out = f"sum {them} out with loss=TraceEnum_ELBO(), "
    if fixed or not all(has_finite_support(model_trace[name].dist) for name in missing):
        sum_out = ""
    complain(
        sentence(
            f"The model has latent sites that the guide does not sample: {quoted(missing)}",
            found=f"the guide samples {quoted(guide_latents)}",
            fix=f"Sample {quoted(missing)} in the guide, {sum_out}or condition the model on "
            f"{them} (by passing the data, if {'it is' if len(missing) == 1 else 'they are'} "
            "observed)",
        )
        + hint,
        PairingError,
    )


def _complain_of_extra(extra: list[str], model_trace: Trace) -> None:
    name = extra[0]
    if name in model_trace:
        site = model_trace[name]
        role = "observed" if site.type == "sample" else f"a {site.type}"
        raise PairingError(
            sentence(
                f"Site {name!r} is sampled in the guide but is {role} in the model",
                fix="Remove it from the guide, or do not observe it in the model",
            )
        )
    complain(
        sentence(
            f"The guide samples sites that the model does not have: {quoted(extra)}",
            found=f"the model's latent sites are {quoted(model_trace.latent)}",
            fix="Rename them, or mark sites that only the guide needs with "
            'sample(name, dist, infer={"is_auxiliary": True})',
        )
        + did_you_mean(name, model_trace.latent),
        PairingError,
    )


def check_loops(model_trace: Trace, guide_trace: Trace) -> None:
    """Refuse loops that draw a site anew: `pytensor.scan` copies what a step refers to into it."""
    sites = [*guide_trace.sites("sample", "factor"), *model_trace.sites("sample", "factor")]
    laws = [as_plain_tensor(site.value if site.dist is None else site.dist) for site in sites]
    if not any(map(_drawn_in_loops, applys_between([], laws))):
        return
    for site, law in zip(sites, laws, strict=True):
        generators = set().union(*map(_drawn_in_loops, applys_between([], [law])))
        if generators:
            drawn = [
                latent.name
                for latent in guide_trace.latent.values()
                if generators.intersection(ancestors([as_plain_tensor(latent.value)]))
            ]
            drawn += [
                latent.name
                for latent in model_trace.latent.values()
                if generators.intersection(ancestors([as_plain_tensor(latent.dist)]))
            ]
            raise PairingError(
                sentence(
                    f"The law of site {site.name!r} has a loop (pytensor.scan) whose step "
                    f"refers to a draw (of {quoted(dict.fromkeys(drawn))}) without being given it, "
                    "and would draw it anew",
                    fix="Hand it to the step: pytensor.scan(step, ..., non_sequences=[...])",
                )
            )


def _drawn_in_loops(node: Apply) -> set[Variable]:
    """Return the random generators that a loop uses without handing them on."""
    if not isinstance(node.op, Scan):
        return set()
    fixed = node.op.outer_non_seqs(node.inputs)
    return {variable for variable in fixed if isinstance(variable.type, RandomType)}
