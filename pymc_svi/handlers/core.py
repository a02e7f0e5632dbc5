"""The base class of all handlers, and how a program is run under them."""

from __future__ import annotations

import copy
import functools
import inspect
from typing import Any, Self, cast

import pymc as pm

from pymc_svi.errors import quoted, sentence
from pymc_svi.handlers.calls import check_call, explain_call, explain_missing_model, name_here
from pymc_svi.handlers.site import Site
from pymc_svi.handlers.stack import STACK
from pymc_svi.handlers.walk import walk_model

__all__ = ["Handler", "Program", "built_model", "run_program"]

Program = Any  # a callable that creates PyMC variables, or a built pm.Model


class Handler:
    """Base class of effect handlers: an object that sees each site of a program as it is created.

    Subclasses override :meth:`process_message` (before the site has its value) and
    :meth:`postprocess_message` (after it has) and change the site in place. Every handler
    works in three forms: around a program, ``handler(program, ...)``; as a context manager,
    ``with handler(...):``; and as a decorator, ``@handler(...)``. Programs are functions that
    create PyMC variables, built :class:`pymc.Model` objects, and wrapped programs.

    Parameters
    ----------
    program : callable or pymc.Model, optional
        The program to run under this handler.

    Raises
    ------
    TypeError
        If ``program`` is given and is not one.

    Examples
    --------
    A handler that logs the names of the sample sites it sees:

    >>> import pymc as pm
    >>> from pymc_svi import handlers
    >>> class Log(handlers.Handler):
    ...     def __init__(self, program=None):
    ...         super().__init__(program)
    ...         self.seen = []
    ...
    ...     def process_message(self, site):
    ...         if site.type == "sample":
    ...             self.seen.append(site.name)
    >>> def program():
    ...     x = pm.Normal("x")
    ...     pm.Normal("y", x, observed=1.0)
    >>> with Log() as log, pm.Model():
    ...     program()
    >>> log.seen
    ['x', 'y']

    One that anneals: around model and guide alike, it weighs the latent terms less.

    >>> class Anneal(handlers.Handler):
    ...     def __init__(self, program=None, weight=1.0):
    ...         super().__init__(program)
    ...         self.weight = weight
    ...
    ...     def process_message(self, site):
    ...         if site.is_latent:
    ...             site.scale = site.scale * self.weight
    >>> tr = handlers.trace(Anneal(program, weight=0.5)).get_trace()
    >>> tr["x"].scale, tr["y"].scale
    (0.5, 1.0)

    And one that counts elements once their values are known:

    >>> class Count(handlers.Handler):
    ...     total = 0
    ...
    ...     def postprocess_message(self, site):
    ...         if site.is_latent:
    ...             self.total += int(site.value.size.eval())
    >>> with Count() as count, pm.Model():
    ...     program()
    >>> count.total
    1
    """

    def __init__(self, program: Program | None = None):
        if program is not None and not (callable(program) or isinstance(program, pm.Model)):
            raise TypeError(
                sentence(
                    f"{type(self).__name__}: the first argument must be a program",
                    found=f"{program!r} of type {type(program).__name__}",
                    expected="a function that creates PyMC variables, or a pm.Model",
                    fix="Pass handler settings by keyword, for example condition(data={...})",
                )
            )
        self.program = program
        self._entered: Any = None
        if callable(program) and not isinstance(program, Handler):
            functools.update_wrapper(self, program, updated=())

    def process_message(self, site: Site) -> None:
        """See a site on its way out, before it has a value. Override to change it.

        Parameters
        ----------
        site : Site
            The site, to be changed in place.
        """

    def postprocess_message(self, site: Site) -> None:
        """See a site on its way back in, when its value is set. Override to record it.

        Parameters
        ----------
        site : Site
            The site.
        """

    def __enter__(self) -> Self:
        stack = STACK.get()
        if any(handler is self for handler in stack):
            raise ValueError(
                sentence(
                    f"This {type(self).__name__} handler is already active",
                    fix="Make a second handler object to nest it inside itself",
                )
            )
        self._entered = stack
        STACK.set((*stack, self))
        return self

    def __exit__(self, *exc_info) -> None:
        # Back to the stack as it was at entry: also when an exception passes through and when
        # a handler inside was left open.
        STACK.set(self._entered)
        self._entered = None
        if len(exc_info) > 1 and isinstance(exc_info[1], TypeError):
            explain_missing_model(exc_info[1])

    def __call__(self, *args, **kwargs) -> Any:
        """Run the wrapped program under this handler, or wrap one when used as a decorator."""
        if self.program is None:
            if len(args) == 1 and not kwargs and (callable(args[0]) or _is_model(args[0])):
                return self.around(args[0])
            raise TypeError(
                sentence(
                    f"{type(self).__name__} has no program to run",
                    fix="Give it one, handler(program, ...)(*args), or use it as a context manager",
                )
            )
        # A copy, so that one wrapped program can run in several threads or inside itself.
        with copy.copy(self):
            return run_program(self.program, *args, **kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> Self:
        """Bind a decorated method to its object."""
        if instance is None or not inspect.isfunction(inspect.unwrap(self)):
            return self
        bound = copy.copy(self)
        bound.program = cast(Any, self.program).__get__(instance, owner)
        return bound

    def around(self, program: Program) -> Self:
        """Return a handler with the same settings around a program.

        Parameters
        ----------
        program : callable or pymc.Model
            The program.

        Returns
        -------
        Handler
            The handler, of this class.
        """
        wrapped = copy.copy(self)
        Handler.__init__(wrapped, program)
        return wrapped

    def __repr__(self) -> str:
        inside = "" if self.program is None else _program_name(self.program)
        return f"{type(self).__name__}({inside})"


def run_program(program: Program, /, *args, **kwargs) -> Any:
    """Run a program of either kind under the active handlers."""
    if _is_model(program):
        if args or kwargs:
            raise TypeError(
                sentence(
                    "A built pm.Model takes no arguments",
                    found=f"{len(args)} positional and {len(kwargs)} keyword arguments"
                    + (f", {quoted(kwargs)}" if kwargs else ""),
                    fix="Change its data with pm.set_data, or write the model as a function of them",
                )
                + "".join(map(name_here, kwargs))
            )
        return walk_model(program)
    if isinstance(program, Handler):
        return program(*args, **kwargs)
    check_call(program, args, kwargs)
    try:
        return program(*args, **kwargs)
    except Exception as error:
        explain_call(error, program, args, kwargs)
        raise


def built_model(program: Program) -> pm.Model | None:
    """Return the built model inside a program, through wrappers; None for functions."""
    while program is not None and not _is_model(program):
        program = getattr(program, "program", None) or getattr(program, "model", None)
    return program


def _is_model(program: Any) -> bool:
    return isinstance(program, pm.Model)


def _program_name(program: Program) -> str:
    return getattr(program, "__name__", None) or repr(program)
