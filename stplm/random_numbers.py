"""Random numbers inside compiled loops: a state a cell, so that what is drawn does not depend on threads."""

from __future__ import annotations

import numpy as np

from stplm.compiled import compiled


@compiled(nogil=True)
def mixed(state):  # type: ignore[no-untyped-def]
    """The next random uint64: splitmix64 (Steele, Lea and Flood 2014)."""
    z = state + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@compiled(nogil=True)
def uniform(state):  # type: ignore[no-untyped-def]
    """The next state, and a float64 in [0, 1)."""
    state = mixed(state)
    return state, (state >> np.uint64(11)) * (1.0 / 9007199254740992.0)
