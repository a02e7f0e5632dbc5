"""``AutoAmortizedNormal``: the posterior of what belongs to a row, computed from the row."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.graph.op import io_connection_pattern
from pytensor_ml.activations import Tanh
from pytensor_ml.layers import Linear, Sequential
from pytensor_ml.state import ZeroInitializer

from pymc_svi.constraints import positive
from pymc_svi.errors import SiteError, quoted, sentence
from pymc_svi.evaluation import evaluate
from pymc_svi.gradients import random_variables, rsample
from pymc_svi.guides.base import AutoGuide
from pymc_svi.guides.init import InitStrategy, init_to_initial_point
from pymc_svi.guides.normal import check_init_scale, normal_log_density
from pymc_svi.guides.prototype import Latent, Prototype
from pymc_svi.guides.spaces import unconstrained_center
from pymc_svi.handlers import Handler, Site, trace
from pymc_svi.handlers.core import Program, built_model
from pymc_svi.handlers.frame import Frame
from pymc_svi.handlers.log_prob import as_plain_tensor
from pymc_svi.handlers.stack import no_handlers
from pymc_svi.primitives import init_seed, module, param

__all__ = ["AutoAmortizedNormal"]

Encoder = Callable[[Variable], Variable] | Sequence[int]
Features = Callable[..., Any] | Sequence[str]


class AutoAmortizedNormal(AutoGuide):
    r"""Guide for latent sites with an element for each row of the data: computed, not learned.

    A network, the encoder, reads the features :math:`h_i` of row :math:`i` and returns the Normal
    of the row's unconstrained elements,

    .. math:: u_i \sim \operatorname{Normal}\left(\text{loc} + w c_i + a(h_i),\;
        \text{scale} \cdot \exp b(h_i)\right),

    where :math:`c_i` is the centre of the row's prior given the guide's draws of the other sites;
    the term is there if it depends on any. The number of params does not grow with the data; a fit
    sees any number of rows, in minibatches of a ``DataLoader`` or of a subsampled plate, and
    :meth:`~pymc_svi.SVIRunResult.sample_posterior` has the posterior of rows that it never saw. On
    a linear model with Normal noise, a linear encoder contains the posterior.

    All latent sites that it sees have to belong to the rows: by a first axis that has the length
    of the features, or a plate along which they go. Others get another guide, before this one, as
    parts of an :class:`AutoGuideList`. With a ``DataLoader`` the model is a function of the data.

    For a site ``x`` the params are ``x_auto_loc``, ``x_auto_scale``, and ``x_auto_weight`` where
    its prior depends on other sites, of the shape of one row; those of the network have names
    that begin with ``auto_encoder.``.

    Parameters
    ----------
    model : callable or pymc.Model
        The model, of which only the sites of rows are visible.
    encoder : sequence of int or callable
        Widths of the hidden layers of a network with tanh units, ``[]`` for a linear map, which
        starts at a guide that is the same for all rows. Or a network of ``pytensor_ml`` layers
        from the features to two numbers for each unconstrained element of a row: first all
        :math:`a`, then all :math:`b`.
    features : callable or sequence of str, optional
        What the encoder reads: a function of the arguments of the model, those it does not know
        left out, that returns a matrix with a row for each row of the data; or names of
        ``pm.Data``. By default all arguments of the model that are not None, as columns, or all
        ``pm.Data`` of a built model.
    prefix : str, default "auto"
        Part of the names of the params.
    init_loc_fn : callable, default ``init_to_initial_point``
        Where the locations start, averaged over rows; see :mod:`pymc_svi.guides.init`.
    init_scale : float, default 0.1
        Where the scales start, in unconstrained space.

    Raises
    ------
    SiteError
        When it is run: if a site has no axis for the rows, or the encoder returns another number
        of columns.
    TypeError
        If the encoder is neither a network nor widths, or ``features`` is a single string.

    References
    ----------
    Kingma and Welling (2014), Auto-encoding variational Bayes.
    Agrawal and Domke (2021), Amortized variational inference for simple hierarchical models.

    Examples
    --------
    >>> import numpy as np
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> from pymc_svi.guides import AutoAmortizedNormal, AutoGuideList, AutoNormal
    >>> def model(y):
    ...     mu = pm.Normal("mu")
    ...     z = pm.Normal("z", mu, 1.0, shape=y.shape[0])
    ...     pm.Normal("y", z, 0.5, observed=y)
    >>> guide = AutoGuideList(model)
    >>> guide = guide.append(AutoNormal(handlers.block(model, expose=["mu"])))
    >>> guide = guide.append(AutoAmortizedNormal(handlers.block(model, hide=["mu"]), [8]))
    >>> tr = handlers.trace(guide).get_trace(np.zeros(100))
    >>> tr["z"].shape, tr["z_auto_weight"].shape, tr["auto_encoder.hidden_1_W"].shape
    ((100,), (), (1, 8))
    """

    step_up = "wider or more layers in the encoder, or a guide of one's own with correlations"

    def __init__(
        self,
        model: Program,
        encoder: Encoder,
        features: Features | None = None,
        *,
        prefix: str = "auto",
        init_loc_fn: InitStrategy = init_to_initial_point,
        init_scale: float = 0.1,
    ):
        super().__init__(model, prefix=prefix, init_loc_fn=init_loc_fn)
        self.init_scale = check_init_scale(type(self).__name__, init_scale)
        self.encoder = _check_encoder(encoder)
        self.features = _check_features(features)
        # The model without what an AutoGuideList puts around it, and what later runs have from
        # the first one: the network, how many features it reads, and which sites follow others.
        # A dict, which the copies of a part of a list share.
        self._alone = model
        self._first: dict[str, Any] = {}
        self._arguments: tuple[tuple, Mapping[str, Any]] = ((), {})

    def run(self, args: tuple, kwargs: Mapping[str, Any]) -> Mapping[str, Variable]:
        """Emit the guide's sites; return its draws in unconstrained space by site name."""
        self._arguments = args, kwargs
        return super().run(args, kwargs)

    def begin(self, prototype: Prototype):
        """Return the function that draws one site."""
        latents = prototype.latents
        following = self._following(list(latents))
        encoded: dict[tuple[str, ...], Variable] = {}
        row_shapes: dict[str, tuple[int, ...]] = {}

        def averages(values: Mapping[str, np.ndarray], name: str) -> np.ndarray:
            value = np.broadcast_to(values[name], latents[name].shape)
            return value.mean(axis=_axis_of_rows(latents[name]))

        def start(name: str) -> np.ndarray:
            value = averages(prototype.start(init_seed()), name)
            if name in following:
                centers = prototype.at_start(init_seed(), unconstrained_center, [name])
                value = value - averages(centers, name)
            return value

        def draw(site: Site) -> tuple[Variable, Variable, Callable]:
            name, latent = site.name, latents[site.name]
            axis = _axis_of_rows(latent)
            plates = tuple(frame.name for frame in site.plates)
            if not encoded:
                row_shapes.update((n, _row_shape(x)) for n, x in latents.items())
            if plates not in encoded:  # plates have their rows
                encoded[plates] = self._encode(site, latents, row_shapes)
            ends = np.cumsum([_size(shape) for shape in row_shapes.values()])
            end = dict(zip(row_shapes, ends, strict=True))[name]
            shape, stem = row_shapes[name], f"{name}_{self.prefix}"

            def along_rows(column: int) -> Variable:
                columns = encoded[plates][:, column - _size(shape) : column]
                return pt.moveaxis(columns.reshape((columns.shape[0], *shape)), 0, axis)

            def declare(what: str, init, **settings) -> Variable:
                return pt.expand_dims(param(f"{stem}_{what}", init, **settings), axis)

            loc = declare("loc", lambda: start(name)) + along_rows(end)
            scale = declare("scale", np.full(shape, self.init_scale), constraint=positive)
            if name in following:
                weight = declare("weight", np.ones(shape))
                loc = loc + weight * unconstrained_center(site)
            log_scale = pt.log(scale) + along_rows(ends[-1] + end)
            scale = pt.exp(log_scale)
            eps = rsample(pm.Normal.dist(0.0, 1.0, size=loc.shape))
            log_density = normal_log_density(eps, 0.0, 1.0) - log_scale
            return loc + scale * eps, log_density, lambda u: normal_log_density(u, loc, scale)

        return draw

    # --- the encoder --------------------------------------------------------------------------

    def _encode(
        self, site: Site, latents: Mapping[str, Latent], shapes: Mapping[str, tuple[int, ...]]
    ) -> Variable:
        """Run the encoder on the rows that a site belongs to."""
        guide = type(self).__name__
        features = _rows_of(self._read(), site)
        rows = _length(features, 0)
        for latent in latents.values():
            found = latent.shape[_axis_of_rows(latent)] if latent.shape else None
            if latent.site.plates == site.plates and found != rows:
                raise SiteError(
                    sentence(
                        f"{guide}: site {latent.name!r} does not belong to the rows of the "
                        "features",
                        found=f"shape {latent.shape} unconstrained, and {rows} rows",
                        expected="an element for each row along its first axis",
                        fix=f"Hide it, handlers.block(model, hide=[{latent.name!r}]), and draw it "
                        "with another part of an AutoGuideList; or check features",
                    )
                )
        width, n_in = sum(map(_size, shapes.values())), _length(features, 1)
        known = self._first.setdefault("n_in", n_in)
        if n_in != known:
            raise SiteError(
                sentence(
                    f"{guide}: the encoder reads other features than it was fitted on",
                    found=f"{n_in} columns",
                    expected=f"{known}, those of the first run",
                    fix="Pass all data that the posterior of a row is computed from, or read "
                    "fewer of them: features=lambda X: X",
                )
            )
        network = self._first.get("network")
        if network is None:
            network = self._first["network"] = (
                self.encoder if callable(self.encoder) else _network(self.encoder, n_in, 2 * width)
            )
        redraw = not callable(self.encoder)
        output = pt.as_tensor(module(f"{self.prefix}_encoder", network, redraw=redraw)(features))
        columns = _length(output, 1) if output.ndim == 2 else None
        if columns != 2 * width:
            raise SiteError(
                sentence(
                    f"{guide}: the encoder returns two numbers for each unconstrained element of "
                    "a row",
                    found=f"{columns} columns" if columns else f"{output.ndim} dimensions",
                    expected=f"{2 * width} columns for {quoted(latents)}",
                    fix=f"Let its last layer be Linear(..., n_out={2 * width}), or give widths of "
                    "hidden layers for a network that fits: encoder=[32]",
                )
            )
        return output

    def _read(self) -> Variable:
        """Return the features, as a matrix."""
        args, kwargs = self._arguments
        if callable(self.features):
            given = _named(self.features, self._alone, args, kwargs)
            return _as_matrix(self.features(**given))
        built = built_model(self._alone)
        if built is None:
            data = _named(self._alone, self._alone, args, kwargs)
        else:
            data = {str(variable.name): variable for variable in built.data_vars}
        data = {name: value for name, value in data.items() if value is not None}
        names = list(data) if self.features is None else self.features
        missing = [name for name in names if name not in data]
        if missing or not names:
            where = "arguments of the model" if built is None else "pm.Data of the model"
            raise SiteError(
                sentence(
                    f"{type(self).__name__}: the features are {where}",
                    found=f"no {quoted(missing)}" if missing else "none",
                    expected=quoted(data) if data else "data to compute the posterior from",
                    fix="Pass the data of the rows in this way, or features=lambda: data",
                )
            )
        matrices = [_as_matrix(data[name]) for name in names]
        return pt.concatenate(matrices, axis=1) if len(matrices) > 1 else matrices[0]

    # --- the model ----------------------------------------------------------------------------

    def _following(self, names: Sequence[str]) -> list[str]:
        """Return the sites whose prior's centre depends on other latent sites."""
        if "following" not in self._first:
            args, kwargs = self._arguments
            with no_handlers():
                run = trace(self._alone).get_trace(*args, **kwargs)
            self._first["following"] = [n for n in names if _follows_others(run[n])]
        return self._first["following"]


def _follows_others(site: Site) -> bool:
    center = unconstrained_center(site)
    if center is None:
        return False
    draws = [draw for draw in random_variables([center]) if draw is not site.dist]
    return any(connected for [connected] in io_connection_pattern(draws, [center]))


def _frame_of_rows(site: Site) -> Frame | None:
    """Return the plate of which a site's rows are the repetitions."""
    frames = sorted(site.plates, key=lambda frame: not frame.is_subsampled)
    return frames[0] if frames else None


def _axis_of_rows(latent: Latent) -> int:
    frame = _frame_of_rows(latent.site)
    return 0 if frame is None else len(latent.shape) - latent.event_ndim + frame.dim


def _row_shape(latent: Latent) -> tuple[int, ...]:
    """Return the shape of a site in unconstrained space, without its axis of rows."""
    axis = _axis_of_rows(latent)
    return latent.shape[:axis] + latent.shape[axis + 1 :]


def _rows_of(features: Variable, site: Site) -> Variable:
    """Return the rows of features that belong to the present minibatch of a plate."""
    frame = _frame_of_rows(site)
    if frame is None or not frame.is_subsampled or _length(features, 0) != frame.size:
        return features
    return features[frame.indices]


# --- arguments and arrays -----------------------------------------------------------------------


def _check_encoder(encoder: Any) -> Encoder:
    if callable(encoder):
        return encoder
    widths = isinstance(encoder, Sequence) and not isinstance(encoder, str)
    if not widths or not all(isinstance(n, int) and n > 0 for n in encoder):
        raise TypeError(
            sentence(
                "AutoAmortizedNormal: the encoder is a network, or the widths of hidden layers",
                found=repr(encoder),
                fix="For example [32, 32], or [] for a linear map",
            )
        )
    return list(encoder)


def _check_features(features: Any) -> Features | None:
    names = not isinstance(features, str) and isinstance(features, Sequence)
    if not (features is None or callable(features) or names):
        raise TypeError(
            sentence(
                "AutoAmortizedNormal: features are a function of the data, or several names",
                found=repr(features),
                fix="For example features=lambda X: X, or features=['X']",
            )
        )
    return features


def _network(hidden: Sequence[int], n_in: int, n_out: int) -> Callable[[Variable], Variable]:
    """Return a network whose output is zero at first."""
    layers: list[Callable] = []
    for number, width in enumerate(hidden, start=1):
        layers += [Linear(f"hidden_{number}", n_in=n_in, n_out=width), Tanh()]
        n_in = width
    # Without a bias: that is the guide's loc and scale.
    last = Linear(
        "output", n_in=n_in, n_out=n_out, bias=False, weight_initializer=ZeroInitializer()
    )
    return Sequential(*layers, last)


def _named(function: Callable, model: Program, args: tuple, kwargs: Mapping) -> dict[str, Any]:
    """Return the arguments of a model by name, those that a function takes."""
    while isinstance(model, Handler) and model.program is not None:
        model = model.program
    named = dict(kwargs)
    if args:
        named |= inspect.signature(model).bind_partial(*args).arguments
    while isinstance(function, Handler) and function.program is not None:
        function = function.program
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return named
    return {p.name: named[p.name] for p in parameters if p.name in named}


def _as_matrix(data: Any) -> Variable:
    """Return data as a matrix with a row for each of its first axis."""
    data = pt.as_tensor(as_plain_tensor(data) if isinstance(data, Variable) else np.asarray(data))
    if data.ndim == 0:
        raise SiteError(
            sentence(
                "AutoAmortizedNormal: features are arrays with a row for each row of the data",
                found="a number",
                fix="Choose others: features=lambda X: X, or features=['X']",
            )
        )
    data = data.astype(pytensor.config.floatX)
    if data.ndim == 2:
        return data
    return data.reshape((data.shape[0], _size(_length(data, axis) for axis in range(1, data.ndim))))


def _size(shape: Iterable[int]) -> int:
    return math.prod(shape)


def _length(array: Variable, axis: int) -> int:
    static = array.type.shape[axis]
    return int(evaluate(array.shape[axis])) if static is None else static
