"""``seed``: run a program on numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
from pytensor.graph.basic import Variable

from pymc_svi.errors import sentence
from pymc_svi.handlers.core import Handler, Program
from pymc_svi.handlers.indices import random_subset
from pymc_svi.handlers.log_prob import as_plain_tensor
from pymc_svi.handlers.site import Site
from pymc_svi.handlers.values import Drawn, as_site_value

__all__ = ["seed"]

_MODE = "FAST_COMPILE"  # every expression is evaluated once


class seed(Handler):
    """Draw each latent site when it is created: concrete numbers out.

    The program then runs on arrays, so that it can branch on what it drew. What it returns is
    evaluated as well. Where seeds are nested, the innermost draws.

    Parameters
    ----------
    program : callable or pymc.Model, optional
        The program.
    rng_seed : int or numpy.random.Generator
        The seed.

    Raises
    ------
    TypeError
        If ``rng_seed`` is neither a whole number nor a generator.

    Examples
    --------
    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> def geometric(n=0):
    ...     if pm.Bernoulli(f"heads_{n}", 0.5):
    ...         return n
    ...     return geometric(n + 1)
    >>> [handlers.seed(geometric, rng_seed=i)() for i in range(3)]
    [2, 0, 7]
    """

    def __init__(self, program: Program | None = None, rng_seed: Any = None):
        super().__init__(program)
        if not isinstance(rng_seed, int | np.integer | np.random.Generator) or isinstance(
            rng_seed, bool
        ):
            raise TypeError(
                sentence(
                    "seed: rng_seed is not a seed",
                    found=f"{rng_seed!r}",
                    expected="a whole number or a numpy Generator",
                    fix="Use seed(program, rng_seed=0)",
                )
            )
        self.rng_seed = rng_seed

    def __enter__(self):
        self._rng = np.random.default_rng(self.rng_seed)
        return super().__enter__()

    def __call__(self, *args, **kwargs) -> Any:
        """Run the program and evaluate what it returns."""
        if self.program is None:
            return super().__call__(*args, **kwargs)
        if pm.Model.get_context(error_if_none=False) is None:
            with pm.Model():
                return evaluated(super().__call__(*args, **kwargs))
        return evaluated(super().__call__(*args, **kwargs))

    def process_message(self, site: Site) -> None:
        """Draw a latent site, or the minibatch of a plate."""
        if site.type == "plate":
            frame = site.plates[0]
            if site.value is None and frame.is_subsampled:
                site.value = random_subset(frame.size, frame.subsample_size)
            if isinstance(site.value, Variable):
                site.value = pm.draw(site.value, random_seed=self._rng, mode=_MODE)
            return
        if site.is_latent and site.value is None and site.part_of is None:
            law = site.dist if site.draw is None else site.draw()
            draw = pm.draw(as_plain_tensor(law), random_seed=self._rng, mode=_MODE)
            site.value = as_site_value(draw, site.dist, site.name, site.dims)

    def postprocess_message(self, site: Site) -> None:
        """Hand the value on as an array."""
        if site.type in ("sample", "param", "deterministic", "plate"):
            site.result = Drawn.of(evaluated(site.outcome))


def evaluated(value: Any) -> Any:
    """Return symbolic variables, also inside tuples, lists and dicts, as arrays."""
    if isinstance(value, Variable):
        return np.asarray(as_plain_tensor(value).eval(mode=_MODE))
    if isinstance(value, tuple | list):
        return type(value)(evaluated(item) for item in value)
    if isinstance(value, dict):
        return {key: evaluated(item) for key, item in value.items()}
    return value
