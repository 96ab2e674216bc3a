"""How a section is embedded in pieces, and which: what is sent to workers, and what its folder of parts says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from stplm.errors import ModelError
from stplm.io.table_file import TableFile
from stplm.models import Model, load_model
from stplm.tasks.embed_file import source_of
from stplm.tasks.finished import what_is_wanted

if TYPE_CHECKING:
    from stplm.tasks.sources import Source

PLAN = "plan.json"
LAID_OUT = "cells.h5ad"
"""The table file of a large bundle, in a folder of parts."""


@dataclass(frozen=True)
class Embedding:
    """How to embed. ``model``: a bundled name or a folder, of ``sha256``; ``block``, ``band``: cells of a piece, about.

    The others are :func:`stplm.embed`'s; ``what`` is the format of the result.
    """

    model: str
    sha256: str
    block: int
    band: int
    adapt: bool = False
    neighbours: bool = True
    device: str = "auto"
    dtype: str = "float32"
    seed: int = 0
    clusters: int = 12
    what: Literal["h5ad", "zarr"] = "h5ad"

    def about(self) -> dict[str, Any]:
        """What decides on the outcome."""
        return {name: value for name, value in asdict(self).items() if name not in ("model", "device", "what")}

    def wanted(self, section: Path) -> dict[str, Any]:
        """What the marker of a finished section says."""
        return what_is_wanted(section, {"task": "embed", **self.about()}, exports=(self.what,), report=False)


@dataclass(frozen=True)
class Plan:
    """The pieces of a section: numbers of blocks and bands (0 where cells stand alone); and of its cells.

    ``file``: the table file that they are read from; None where they are laid out in ``parts``.
    """

    parts: Path
    file: Path | None
    cells: int
    blocks: int
    bands: int
    model: str
    sha256: str


def read_plan(section: Path, parts: Path, about: dict[str, Any]) -> Plan | None:
    """The plan in a folder of parts, if it is of this section, model and setting."""
    try:
        found = json.loads((parts / PLAN).read_text(encoding="utf-8"))
        if found["wanted"] != about:
            return None
        laid_out = parts / LAID_OUT
        file = None if (parts / "rows.npy").is_file() else laid_out if laid_out.is_file() else section
        return Plan(**{**found["plan"], "parts": parts, "file": file})
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def source_in(plan: Plan) -> Iterator[Source]:
    """The section's cells, for as long as they are read."""
    from stplm.tasks.sources import Source
    from stplm.tasks.stored import read_cells

    if plan.file is None:
        yield Source.of_cells(read_cells(plan.parts, np.load(plan.parts / "rows.npy")))
        return
    with TableFile(plan.file) as file:
        yield source_of(file, model_of(plan.model, plan.sha256))


def positions(plan: Plan) -> NDArray[np.float64]:
    with source_in(plan) as source:
        assert source.xy is not None
        return source.xy


@lru_cache(maxsize=2)
def model_of(name: str, sha256: str) -> Model:
    model = load_model(name)
    if (found := model.fingerprint()) != sha256:
        raise ModelError(
            "The model of this name is another one where the work is done.",
            where=name,
            found=found[:12],
            expected=sha256[:12],
            mend="Give every worker the same model folder and the same version of stplm.",
        )
    return model
