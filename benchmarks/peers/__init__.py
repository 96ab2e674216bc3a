"""Other people's methods, each run by its own package in an environment of its own.

A module here has ``SETTINGS`` (what the prediction depends on besides its input), ``prepare(table, folder)`` (what is
done once for a section) and ``predict(prepared, labels, seed)`` (a class name for every cell). It imports its
packages inside functions only: this environment reads the settings without them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType


@dataclass(frozen=True)
class Peer:
    """One row of the comparison: a module of this kind, and the package whose version tells its results apart."""

    name: str
    module: str
    package: str
    max_seeds: dict[str, int] = field(default_factory=dict)
    """At most so many draws for each number of labels, by class set, where the method is too slow for all of them."""

    def load(self) -> ModuleType:
        """Its module."""
        return import_module(self.module)


PEERS = [
    Peer("CellTypist", "benchmarks.peers.celltypist", "celltypist"),
    Peer("CellTypist, majority voting", "benchmarks.peers.celltypist_voting", "celltypist"),
    Peer("CellPLM, from scratch", "benchmarks.peers.cellplm", "cellplm"),
    Peer("scANVI", "benchmarks.peers.scanvi", "scvi-tools", max_seeds={"coarse": 3, "fine": 3}),
]
