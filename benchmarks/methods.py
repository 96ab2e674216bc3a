"""What is compared, in the order of the tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pandas as pd
from anndata import AnnData

from benchmarks import ours
from benchmarks.ours import Vectors
from benchmarks.peers import PEERS, Peer, environment

Predictor = Callable[[AnnData, np.ndarray, int], np.ndarray]
"""Table, labels (None: no label) and seed to a class name for every cell."""


@dataclass(frozen=True)
class Method:
    """One row: a predictor of this process (on which vectors, for ours) or a peer."""

    name: str
    predictor: Predictor | None = None
    vectors: Vectors | None = None
    peer: Peer | None = None


def all_methods(protocol: ModuleType) -> list[Method]:
    """The default first, then peers, baselines, the other presets, and ablations of the default."""
    own = Vectors()
    rows = [Method("STPLM", ours.default, own)]
    rows += [Method(_with_version(peer), peer=peer) for peer in PEERS]
    rows += [
        Method("logistic regression", protocol.logistic),
        Method("logistic regression on 30 principal components", protocol.pca_logistic),
        Method("nearest neighbours on 30 principal components", nearest),
        Method("STPLM, adapted to the section", ours.default, Vectors(adapt=True)),
        Method("STPLM, without neighbours", ours.default, Vectors(neighbours=False)),
        Method("STPLM, the head sees the tissue part too", ours.with_tissue, own),
        Method("STPLM, without the profiles", ours.without_profiles, own),
        Method("STPLM, without the model's vectors", ours.without_vectors, own),
        Method("STPLM, without the correction for class shares", ours.without_shares, own),
        Method("STPLM, from the labels alone", ours.without_unlabelled, own),
    ]
    for model in ours.bundled()[1:]:
        title = f"STPLM, model {model}"
        rows += [
            Method(title, ours.default, Vectors(model)),
            Method(f"{title}, without neighbours", ours.default, Vectors(model, neighbours=False)),
            Method(f"{title}, the head sees the tissue part too", ours.with_tissue, Vectors(model)),
        ]
    return rows


def nearest(table: AnnData, labels: np.ndarray, seed: int) -> np.ndarray:
    """Baseline: the 5 nearest labelled cells (fewer with fewer labels) on 30 principal components."""
    from sklearn.decomposition import PCA
    from sklearn.neighbors import KNeighborsClassifier

    known = np.array([name is not None for name in labels])
    levels = np.log1p(table.X.multiply(100 / np.maximum(table.X.sum(1), 1)).toarray()).astype(np.float32)
    scores = PCA(min(30, *levels.shape), random_state=0).fit_transform(levels)
    names = labels[known].astype(str)
    k = min(5, int(pd.Series(names).value_counts().min()))
    return KNeighborsClassifier(k, weights="distance").fit(scores[known], names).predict(scores)


def _with_version(peer: Peer) -> str:
    name, comma, rest = peer.name.partition(",")
    return f"{name} {environment.pinned(peer.package)}{comma}{rest}"
