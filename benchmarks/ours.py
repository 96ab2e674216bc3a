"""This project's rows: the default, every bundled model, and ablations that put one thing in or leave one out."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import numpy as np
from anndata import AnnData

import stplm
from benchmarks.peers.jobs import table_digest
from stplm import keys
from stplm.models import list_models, load_model
from stplm.tasks import features

_HEAD = (
    "classif",
    "design",
    "features",
    "head.py",
    "labels",
    "linear",
    "outcome",
    "profiles",
    "prototypes",
    "seed",
    "shares",
    "tum",
    "un",
)
"""Tasks whose names begin so come after the vectors."""


@dataclass(frozen=True)
class Vectors:
    """Which vectors a section gets: a bundled model, adapted to the section or not ("auto": as :func:`stplm.embed` does
    unasked), with its neighbours or without."""

    model: str = "default"
    adapt: bool | Literal["auto"] = "auto"
    neighbours: bool = True


_embedded: dict[str, tuple[np.ndarray, dict[str, Any], float]] = {}


def embed_once(table: AnnData, which: Vectors = Vectors(), cache: Path | None = None) -> float:
    """``stplm.embed`` unless the table has vectors; a table of the same content takes those found before.

    Parameters
    ----------
    cache
        Folder where vectors are kept for later runs, by what they depend on; None keeps them in this process only.

    Returns
    -------
    The seconds that embedding took when it was done.
    """
    if keys.X_STPLM in table.obsm:
        return 0.0
    key = _key(table, which)
    path = cache / "vectors" / f"{key}.npz" if cache else None
    if key not in _embedded and path and path.exists():
        with np.load(path, allow_pickle=False) as stored:
            _embedded[key] = stored["vectors"], json.loads(str(stored["note"])), float(stored["seconds"])
    if key not in _embedded:
        start = time.process_time()
        stplm.embed(table, which.model, adapt=which.adapt, neighbours=which.neighbours, clusters=0)
        seconds = time.process_time() - start
        _embedded[key] = table.obsm[keys.X_STPLM], copy.deepcopy(table.uns[keys.UNS][keys.UNS_EMBEDDING]), seconds
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            vectors, note, _ = _embedded[key]
            part = path.with_name(f"{key}.part.npz")
            np.savez(part, vectors=vectors, note=json.dumps(note), seconds=seconds)
            part.replace(path)
    vectors, note, seconds = _embedded[key]
    table.obsm[keys.X_STPLM] = vectors
    table.uns.setdefault(keys.UNS, {})[keys.UNS_EMBEDDING] = copy.deepcopy(note)
    return seconds


def default(table: AnnData, labels: np.ndarray, seed: int) -> np.ndarray:
    """What a user gets with the bundled model and no setting changed: a class name for every cell.

    ``table`` gains what ``stplm.embed`` and ``stplm.predict`` write.
    """
    embed_once(table)
    stplm.predict(table, stplm.fit_classifier(table, labels, seed=seed))
    return table.obs[keys.CLASS].astype(object).fillna(keys.UNASSIGNED).to_numpy(dtype=str)


def with_tissue(table: AnnData, labels: np.ndarray, seed: int) -> np.ndarray:
    """The head sees the tissue part of the vectors as it sees the own part."""
    embed_once(table)
    note = table.uns[keys.UNS][keys.UNS_EMBEDDING]
    note["own_dim"] = note["dim"]
    return default(table, labels, seed)


def without_profiles(table: AnnData, labels: np.ndarray, seed: int) -> np.ndarray:
    """The head does not see how well a cell fits the reference profiles."""
    with _features(lambda f: replace(f, fit=f.fit[:, :0])):
        return default(table, labels, seed)


def without_vectors(table: AnnData, labels: np.ndarray, seed: int) -> np.ndarray:
    """The head does not see the model's vectors."""
    with _features(lambda f: replace(f, own=f.own[:, :0])):
        return default(table, labels, seed)


def without_shares(table: AnnData, labels: np.ndarray, seed: int) -> np.ndarray:
    """Every class is taken to be as common as any other: in what is called, and in which unlabelled cells join."""
    flat = mock.patch("stplm.tasks.classifier.log_prior", lambda p: np.full(p.shape[1], -np.log(p.shape[1])))
    with flat:
        return default(table, labels, seed)


def bundled() -> list[str]:
    """Names of the bundled models, the default's first."""
    return [model.name for model in list_models()]


def without_unlabelled(table: AnnData, labels: np.ndarray, seed: int) -> np.ndarray:
    """The head learns from the labels alone; no unlabelled cell joins them."""
    with mock.patch("stplm.tasks.unlabelled.rounds", return_value=0):
        return default(table, labels, seed)


@contextlib.contextmanager
def _features(change: Callable[[features.Features], features.Features]) -> Iterator[None]:
    made = features.cell_features
    with mock.patch("stplm.tasks.classify.cell_features", lambda *args, **kwargs: change(made(*args, **kwargs))):
        yield


def _key(table: AnnData, which: Vectors) -> str:
    """Hash of section, choice, weights, and the source that turns counts into vectors."""
    digest = hashlib.sha256(table_digest(table).encode())
    digest.update(json.dumps(asdict(which), sort_keys=True).encode())
    digest.update(load_model(which.model).checksum.encode())
    package = Path(stplm.__file__).parent
    for folder in ("nn", "tokens", "spatial", "tasks"):
        for source in sorted((package / folder).glob("*.py")):
            if not source.name.startswith(_HEAD):
                digest.update(source.read_bytes())
    return digest.hexdigest()[:32]
