"""The errors of the package, and the one place that builds their sentences.

Every message follows the same order: which site, what was found, what was expected, and the
way out. Each class also derives from the built-in exception a caller would expect, so
``except ValueError`` and ``except FloatingPointError`` keep working.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "LABELS",
    "DataError",
    "InitializationError",
    "NonFiniteError",
    "PairingError",
    "SiteError",
    "StateError",
    "did_you_mean",
    "quoted",
    "sentence",
]

# What to do about a label that is too large.
LABELS = (
    "Labels count from 0: places = np.unique(labels, return_inverse=True)[1] makes such of any "
    "labels. Else make longer what they look up"
)


class SiteError(ValueError):
    """A site of a program is wrong in itself: its name, value, shape or parameters."""


class PairingError(ValueError):
    """Model and guide do not fit together at some site."""


class InitializationError(ValueError):
    """A parameter or a latent site has no usable starting value."""


class StateError(ValueError):
    """A state does not belong to the program that is asked to use it."""


class DataError(ValueError):
    """Data cannot be trained on: missing values, wrong columns, shapes or dtypes, too few rows."""


class NonFiniteError(FloatingPointError):
    """The loss or a gradient became NaN or infinite during a fit.

    Parameters
    ----------
    message : str
        What happened, and the way out.
    step : int
        The step (counted from the start of the fit) at which it happened.
    site : str, optional
        The first offending site or parameter.
    state : SVIState, optional
        The last state whose loss and parameters were finite.
    losses : numpy.ndarray, optional
        The losses up to that state.

    Attributes
    ----------
    step, site, state, losses
        As above.
    """

    def __init__(self, message: str, *, step, site=None, state=None, losses=None):
        super().__init__(message)
        self.step = step
        self.site = site
        self.state = state
        self.losses = losses


def quoted(names: Iterable[str]) -> str:
    """Return names as ``'a', 'b'`` for a message.

    Parameters
    ----------
    names : iterable of str
        The names.

    Returns
    -------
    str
        The names with commas; ``none`` if there are none.

    Examples
    --------
    >>> from pymc_svi.errors import quoted
    >>> quoted(["mu", "sigma"])
    "'mu', 'sigma'"
    """
    return ", ".join(repr(str(name)) for name in names) or "none"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the closest known name, or nothing.

    Parameters
    ----------
    name : str
        The name that was given.
    known : iterable of str
        The names there are.

    Returns
    -------
    str
        To be put after a :func:`sentence`.

    Examples
    --------
    >>> from pymc_svi.errors import did_you_mean
    >>> did_you_mean("sigm", ["mu", "sigma"])
    " Did you mean 'sigma'?"
    """
    names = [str(k) for k in known]
    other_case = [k for k in names if k.lower() == name.lower()]
    close = other_case or get_close_matches(name, names, n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""


def sentence(what: str, *, found: str = "", expected: str = "", fix: str = "") -> str:
    """Build a message: what is wrong; found; expected; the way out.

    Parameters
    ----------
    what : str
        What is wrong, with the name of the site.
    found, expected : str, optional
        What there is, and what there should be.
    fix : str, optional
        What to do about it.

    Returns
    -------
    str
        The message.

    Examples
    --------
    >>> from pymc_svi.errors import sentence
    >>> sentence("Site 'x' has no value", found="None", fix="Condition on it")
    "Site 'x' has no value. Found: None. Condition on it."
    """
    parts = [what.rstrip(".") + "."]
    if found:
        parts.append(f"Found: {found.rstrip('.')}.")  # which may be another message
    if expected:
        parts.append(f"Expected: {expected.rstrip('.')}.")
    if fix:
        parts.append(fix.rstrip(".") + ".")
    return " ".join(parts)
