"""The libraries that are measured, each by a script of its own that runs in its own environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["OURS", "OURS_FLOAT32", "PEERS", "Peer"]


@dataclass(frozen=True)
class Peer:
    """A library, or a way of running one.

    Attributes
    ----------
    name, title : str
        As given on the command line, and as printed.
    module : str
        The script, run with ``python -m``.
    environment : str, optional
        Its environment, see ``environments.py``; ``None`` is the one that the benchmark runs in.
    arguments : tuple of str
        Further arguments of the script.
    disk_cache : bool
        Whether compiled code is kept on disk, so that a process can start from three kinds of
        cache. Without one every process is a first one.
    max_steps : int, optional
        Most steps of a fit, for libraries that would take minutes; times are extrapolated.
    beside : str
        Which of ours it is compared with: the one of its precision.
    """

    name: str
    title: str
    module: str
    environment: str | None = None
    arguments: tuple[str, ...] = ()
    disk_cache: bool = False
    max_steps: int | None = None
    beside: str = "pymc_svi"


OURS, OURS_FLOAT32 = "pymc_svi", "pymc_svi_float32"

_ALL = (
    Peer(OURS, "pymc_svi", "benchmarks.peers.ours", disk_cache=True),
    Peer(
        OURS_FLOAT32,
        "pymc_svi, float32",
        "benchmarks.peers.ours",
        arguments=("--float32",),
        disk_cache=True,
    ),
    Peer("pmfit", "pm.fit", "benchmarks.peers.pmfit_peer", disk_cache=True),
    Peer(
        "pymc_extras",
        "pymc-extras Trainer",
        "benchmarks.peers.pymc_extras_peer",
        environment="pymc_extras",
        disk_cache=True,
    ),
    Peer(
        "numpyro",
        "NumPyro",
        "benchmarks.peers.numpyro_peer",
        environment="numpyro",
        beside=OURS_FLOAT32,
    ),
    Peer(
        "numpyro_x64",
        "NumPyro, float64",
        "benchmarks.peers.numpyro_peer",
        environment="numpyro",
        arguments=("--x64",),
    ),
    Peer(
        "pyro",
        "Pyro",
        "benchmarks.peers.pyro_peer",
        environment="pyro",
        max_steps=1_000,
        beside=OURS_FLOAT32,
    ),
)
PEERS: Mapping[str, Peer] = {peer.name: peer for peer in _ALL}
