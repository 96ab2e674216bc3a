"""The few-shot protocol: a labelled section, two sets of classes, and which labels a method is shown.

The split into halves, the draw of labels and two of the baselines are the protocol file's own, so that every method
sees the same labels and is scored on the same cells. The fine classes use the same split, buffer and draw.
"""

from __future__ import annotations

import argparse
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import anndata as ad
import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
PROTOCOL = ROOT.parent / "shared" / "protocols" / "fewshot.py"
FINE_MINIMUM = 30
"""Cells that a fine class needs on either half."""


@dataclass(frozen=True, eq=False)
class ClassSet:
    """A section with the classes that are asked for.

    ``truth`` (n_cells,) has a class name or None for a cell that is not scored; ``left`` and ``right`` (n_cells,) are
    the halves where labels are drawn and where predictions are scored; ``tumour`` names the tumour classes.
    """

    name: str
    table: AnnData
    truth: NDArray[np.object_]
    left: NDArray[np.bool_]
    right: NDArray[np.bool_]
    tumour: tuple[str, ...]
    protocol: ModuleType

    def labels(self, shots: int | None, seed: int) -> NDArray[np.object_]:
        """Labels (n_cells,) for ``shots`` cells of each class on the left half (all for None); None elsewhere."""
        labels: NDArray[np.object_] = self.protocol.draw(self.truth, self.left, shots, seed)
        return labels

    @property
    def classes(self) -> list[str]:
        """Class names, sorted."""
        return sorted(set(self.truth[self.left | self.right]))


def load_protocol(path: Path = PROTOCOL) -> ModuleType:
    """The protocol file as a module."""
    spec = importlib.util.spec_from_file_location("fewshot_protocol", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise SystemExit(f"The protocol was not found at {path}; say where it is with --protocol.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def coarse(protocol: ModuleType) -> ClassSet:
    """The protocol's own classes."""
    table, truth, left, right = protocol.load()
    return ClassSet("coarse", table, truth, left, right, ("Tumour",), protocol)


def fine(protocol: ModuleType) -> ClassSet:
    """The annotation's own cell types, without those that it leaves undecided and those rare on either half."""
    table, _, _, _ = protocol.load()
    named = ad.read_h5ad(protocol.SECTION).obs["cell_type"].astype(str).to_numpy(dtype=object)
    truth, left, right = fine_truth(named, table.obsm["spatial"][:, 0])
    tumour = tuple(name for name, group in protocol.COARSE.items() if group == "Tumour")
    return ClassSet("fine", table, truth, left, right, tumour, protocol)


def fine_truth(
    named: NDArray[np.object_], x: NDArray[np.float64], buffer: float = 30.0
) -> tuple[NDArray[np.object_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Class of each cell (None where it is not scored), left and right half; ``x`` and ``buffer`` in µm."""
    decided = np.array([None if name == "Unlabeled" or "Hybrid" in name else name for name in named], dtype=object)
    return common_classes(decided, *halves(x, buffer), FINE_MINIMUM)


def halves(x: NDArray[np.float64], buffer: float = 30.0) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Left and right of the median ``x``, each ``buffer`` away from it, both in µm."""
    return x < np.median(x) - buffer, x > np.median(x) + buffer


def common_classes(
    truth: NDArray[np.object_], left: NDArray[np.bool_], right: NDArray[np.bool_], fewest: int
) -> tuple[NDArray[np.object_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Truth without the classes (None: no class) that have under ``fewest`` cells on either half, and of the halves the
    cells that are left."""
    counts = [pd.Series(truth[half]).value_counts() for half in (left, right)]
    kept = {name for name in counts[0].index if min(c.get(name, 0) for c in counts) >= fewest}
    truth = np.array([name if name in kept else None for name in truth], dtype=object)
    known = np.array([name is not None for name in truth])
    return truth, left & known, right & known


def add_options(parser: argparse.ArgumentParser, page: Path) -> None:
    """Which draws are run and where scores go; :func:`shots_of` reads the first."""
    parser.add_argument("--shots", default="1,5,10,50,all", help="labels a class, comma between")
    parser.add_argument("--seeds", type=int, default=5, help="draws of labels for each number of shots")
    parser.add_argument("--protocol", type=Path, default=PROTOCOL)
    parser.add_argument("--json", type=Path, help="write every draw's scores here")
    parser.add_argument("--docs", default=str(page), help='page whose tables are replaced; "" for none')


def shots_of(arguments: argparse.Namespace) -> list[int | None]:
    """Labels a class; None for all."""
    return [None if s == "all" else int(s) for s in arguments.shots.split(",")]
