"""Which arrays feed what, and which sites belong to the rows of a batch."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import pymc as pm
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable
from pytensor.graph.traversal import ancestors

from pymc_svi.data import DataError
from pymc_svi.engine.arguments import DataVariable
from pymc_svi.errors import PairingError, SiteError, did_you_mean, quoted, sentence
from pymc_svi.evaluation import evaluate
from pymc_svi.handlers.core import Program, built_model
from pymc_svi.trainer.batching import Plan, accepted_names
from pymc_svi.trainer.feeds import DataFeed
from pymc_svi.trainer.local import check_amortised, own_rows, rows_of_batch

__all__ = ["explaining_lengths", "plan_batches"]

# What is said of lengths that do not fit, by PyTensor and by this package.
_LENGTHS = "shape|dimension|broadcast"
_PAIRS = "in the model, .* in the guide|does not fit its distribution"


def name_of_bare_array(model: Program) -> str:
    """Return what a bare array feeds: the only ``pm.Data``, or the first argument."""
    built = built_model(model)
    if built is None:
        names = [
            p.name
            for p in inspect.signature(model).parameters.values()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        if names:
            return names[0]
        what, known = "arguments", names
    else:
        known = [str(variable.name) for variable in built.data_vars]
        if len(known) == 1:
            return known[0]
        what = "pm.Data"
    raise DataError(
        sentence(
            "It is not clear what a bare array feeds",
            found=f"{what}: {quoted(known)}",
            fix='Give it a name: DataLoader({"X": X}, ...)',
        )
    )


def plan_batches(model: Program, guide: Program, feed: DataFeed) -> Plan:
    """Find what the arrays of the batches feed, and which sites belong to their rows."""
    variables = dict(feed.placeholders)
    if set(variables) == {""}:
        variables = {name_of_bare_array(model): variables[""]}
    data: dict[Variable, str] = {}
    dims: set[str] = set()
    known: set[str] = set()
    for program in (model, guide):
        built = built_model(program)
        if built is None:
            continue
        for variable in built.data_vars:
            known.add(str(variable.name))
            if variable.name in variables:
                name = str(variable.name)
                _check_placeholder(variable, variables[name])
                data[variable] = name
        dims |= _dims_of_rows(built, data)
    _check_all_are_fed(model, guide, feed, variables, dims)
    fed = {name for program in (model, guide) for name in accepted_names(program, variables)}
    for name in variables:
        if name not in fed and name not in data.values():
            arguments = set() if built_model(model) is not None else _arguments(model)
            place = f"pm.Data({name!r}, ...)" if built_model(model) is not None else "an argument"
            raise DataError(
                sentence(
                    f"The data have a column {name!r} that neither model nor guide takes",
                    found=f"pm.Data {quoted(sorted(known))}, arguments {quoted(sorted(arguments))}",
                    fix=f"Rename the column, leave it out, or make {place} of it in the model",
                )
                + did_you_mean(name, known | arguments)
            )
    plan = Plan(variables, feed.loader.total_size, feed.rows, frozenset(dims), data)
    plan = rows_of_batch(model, plan)
    if plan.local:
        check_amortised(guide, plan, plan.local)
    return plan


def _check_all_are_fed(
    model, guide, feed: DataFeed, names: Collection[str], dims: set[str]
) -> None:
    """Refuse data that would stay as long as they are beside batches."""
    for built in filter(None, map(built_model, (model, guide))):
        _check_axes(built, dims)
        along = [
            str(v.name)
            for v in built.data_vars
            if v.name not in names and dims & set((built.named_vars_to_dims.get(v.name) or ())[:1])
        ]
        if along:
            raise _without(along)
    if feed.rows == 1 and feed.loader.total_size > 1:  # one row goes with any number of others
        if missing := _not_fed(model, guide, names):
            raise _without(missing)


def _not_fed(model: Program, guide: Program, names: Collection[str]) -> list[str]:
    """Return the ``pm.Data`` with as many rows as the data that are fed, which are not fed."""
    found = []
    for program in (model, guide):
        built = built_model(program)
        if built is None:
            continue
        rows = {v.name: np.shape(v.get_value(borrow=True))[:1] for v in built.data_vars}
        fed = {length for name, length in rows.items() if name in names}
        of_rows = _dims_of_rows(built, {v: str(v.name) for v in built.data_vars if v.name in names})
        for name, length in rows.items():
            dim = (built.named_vars_to_dims.get(name) or (None,))[0]
            is_other = dim is not None and bool(of_rows) and dim not in of_rows
            if name not in names and length in fed and not is_other:
                found.append(str(name))
    return sorted(set(found))


def _check_axes(built: pm.Model, dims: set[str]) -> None:
    """Refuse data that lie along a dim of the rows, but not by their first axis."""
    for variable in built.data_vars:
        name = str(variable.name)
        own = tuple(built.named_vars_to_dims.get(name) or ())
        later = [dim for dim in own[1:] if dim in dims]
        if later and own[0] not in dims:
            turned = (later[0], *(dim for dim in own if dim != later[0]))
            raise DataError(
                sentence(
                    f"The rows of the model's pm.Data {name!r} are not along its first axis, which is "
                    "what batches are cut along",
                    found=f"dims {own}, rows along {later[0]!r}",
                    fix=f"Make it pm.Data({name!r}, ..., dims={turned}), with its values transposed, and "
                    f"give {name!r} to the DataLoader; transpose it in the model if need be",
                )
            )


def _with_own_rows(built: pm.Model, total_size: int) -> list[str]:
    """Return the sites of a model that use an array of all rows which is not ``pm.Data``."""
    named = {*built.basic_RVs, *built.potentials, *built.deterministics, *built.data_vars}
    found = []
    for variable in named:
        parts = list(variable.owner.inputs) if variable.owner else []
        if variable in built.rvs_to_values:
            parts.append(built.rvs_to_values[variable])
        arrays = ancestors(parts, blockers=named)
        if any(_length_of(array) == total_size for array in arrays if array not in named):
            found.append(str(variable.name))
    return sorted(found)


def _length_of(array: Variable) -> int | None:
    """Return how many rows an array that is not computed has, None for others."""
    if isinstance(array, SharedVariable):
        value = array.get_value(borrow=True)
    else:
        value = getattr(array, "data", None)  # of a constant
    return len(value) if isinstance(value, np.ndarray) and value.ndim else None


def _without(names: Sequence[str], detail: str = "") -> DataError:
    return DataError(
        sentence(
            f"The model's pm.Data {quoted(names)} stayed as long as it is while the DataLoader's "
            "batches have other numbers of rows",
            found=detail,
            fix=f"If their rows belong together, give {quoted(names)} to the DataLoader too",
        )
    )


@contextmanager
def explaining_lengths(
    model: Program, guide: Program, names: Collection[str], total_size: int | None = None
):
    """Say which data were not fed, or which dim is not known, if lengths turn out to differ."""
    try:
        yield
    except (ValueError, AssertionError) as error:
        if dim := _dim_of_all_rows(model, total_size, error):
            raise _longer_dim(dim, total_size, error) from error
        of_ours = isinstance(error, SiteError | PairingError)
        if not re.search(_PAIRS if of_ours else _LENGTHS, str(error), re.IGNORECASE):
            raise
        detail = str(error).splitlines()[0]
        names = [name or name_of_bare_array(model) for name in names]
        if type(error) in (ValueError, AssertionError):
            if missing := _not_fed(model, guide, names):
                raise _without(missing, detail) from error
        if unnamed := _unnamed_dims(model, names):
            raise _unnamed(unnamed, names, detail) from error
        built = built_model(model)
        if total_size and not isinstance(error, PairingError):
            if built is not None and (latent := _of_fixed_length(built, total_size)):
                raise _unlabelled(latent, names, detail) from error
            sites = [] if built is None else _with_own_rows(built, total_size)
            if sites or built is None and re.search(rf"\({total_size}[,)]", detail):
                raise own_rows(sites, total_size, detail) from error
        raise


def _dim_of_all_rows(model: Program, total_size: int | None, error: Exception) -> str:
    """Return the dim of a function program, if any, that an error tells to be as long as all data."""
    if not total_size or built_model(model) is not None:
        return ""
    found = re.search(rf"[( ](?!total_size)(\w+)={total_size}[,)]", str(error))  # as of a shape
    return found[1] if found else ""


def _longer_dim(dim: str, total_size: int | None, error: Exception) -> DataError:
    return DataError(
        sentence(
            f"Dim {dim!r} has a label for each row of all data, {total_size}, beside batches of other "
            "numbers of rows",
            found=str(error).splitlines()[0].rstrip("."),
            fix=f"Leave {dim!r} out where a function program has rows, or build the model: with "
            f'pm.Data(..., dims="{dim}") its rows are those of the batches',
        )
    )


def _unnamed_dims(model: Program, names: Collection[str]) -> dict[str, str]:
    """Return latent sites along a dim that is as long as the data, which themselves have no dims."""
    built = built_model(model)
    if built is None:
        return {}
    data = {v: str(v.name) for v in built.data_vars if v.name in names}
    if _dims_of_rows(built, data):
        return {}
    lengths = {len(variable.get_value(borrow=True)) for variable in data}
    found = {}
    for rv in built.free_RVs:
        for dim in built.named_vars_to_dims.get(rv.name) or ():
            if dim is not None and int(evaluate(built.dim_lengths[dim])) in lengths:
                found[str(rv.name)] = dim
    return found


def _of_fixed_length(model: pm.Model, n: int) -> list[str]:
    """Return latent sites without dims that have an element for each row of all data."""
    dims = model.named_vars_to_dims
    return [str(v.name) for v in model.free_RVs if v.name not in dims and v.type.shape[:1] == (n,)]


def _unlabelled(sites: Sequence[str], names: Collection[str], detail: str) -> DataError:
    return DataError(
        sentence(
            f"{quoted(sites)} of the model keep an element for each row of all data beside batches "
            "of other numbers of rows",
            found=detail.rstrip("."),
            fix=f'Give them and the data one dim, coords={{"row": range(n)}}: dims="row" in place of '
            f'shape, and pm.Data("{next(iter(names))}", ..., dims="row")',
        )
    )


def _unnamed(sites: Mapping[str, str], names: Collection[str], detail: str) -> DataError:
    dim = next(iter(sites.values()))
    return DataError(
        sentence(
            f"{quoted(sites)} lie along dim {dim!r}, but nothing says that the rows of the "
            "DataLoader's batches do",
            found=detail.rstrip("."),
            fix=f"If there is an element for each row, name the dim of the data too: "
            f'pm.Data("{next(iter(names))}", ..., dims="{dim}")',
        )
    )


def _dims_of_rows(model: pm.Model, data: Mapping[Variable, str]) -> set[str]:
    """Return the dims along which data lie, or the sites that are observed to be such data."""
    observed = [rv for rv in model.observed_RVs if model.rvs_to_values[rv] in data]
    dims_of = model.named_vars_to_dims
    first = [(dims_of.get(str(v.name)) or (None,))[0] for v in [*data, *observed]]
    return {dim for dim in first if dim is not None}


def _arguments(program: Program) -> set[str]:
    return set(inspect.signature(program).parameters)


def _check_placeholder(variable: Variable, array: DataVariable) -> None:
    """Check that an array can stand in the place of a ``pm.Data``, but for its rows."""
    value = variable.get_value(borrow=True)
    name = variable.name
    theirs, mine = array.type.shape[1:], value.shape[1:]
    if theirs != mine or value.ndim != array.type.ndim:
        raise DataError(
            sentence(
                f"The rows of {name!r} have another shape than those of the model's pm.Data",
                found=f"{theirs} in the DataLoader",
                expected=f"{mine}",
            )
        )
    if array.type.dtype.startswith("float") and not str(value.dtype).startswith("float"):
        raise DataError(
            sentence(
                f"{name!r} has another dtype than the model's pm.Data",
                found=f"{array.type.dtype} in the DataLoader",
                expected=str(value.dtype),
                fix=f"If they are whole numbers, say so: {name}.astype(int)",
            )
        )
