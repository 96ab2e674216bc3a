"""Have a peer predict draws of labels in its own environment; predictions are kept by what they depend on.

A prediction's name is the hash of the section, the labels, the seed, the peer's settings and its pinned version, so a
second run reads it and a killed run goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData

from benchmarks.peers import Peer, environment

CACHE = environment.ROOT / "build" / "benchmarks"
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Draw:
    """Labels (n_cells,) that a method is shown (None: no label), and the seed that it may use."""

    labels: np.ndarray
    seed: int


@dataclass(frozen=True)
class Prediction:
    """A class name for every cell, and the seconds that fitting and predicting took when it was made."""

    called: np.ndarray
    seconds: float


@dataclass(frozen=True)
class Answer:
    """Predictions by draw (None for one that could not be had), why any is missing ("" if none), and the seconds that
    were spent once on the section before the first draw."""

    predictions: list[Prediction | None]
    reason: str
    once: float


def predict(
    peer: Peer, table: AnnData, draws: list[Draw], cache: Path = CACHE, python: Callable[[], Path] = environment.python
) -> Answer:
    """Have ``peer`` predict ``draws``, or read what it predicted before.

    ``cache`` is the folder of kept predictions; ``python`` gives the interpreter of the peers' environment.
    """
    section = table_digest(table)
    name = peer.module.rpartition(".")[2]
    made_from = [name, environment.pinned(peer.package), peer.load().SETTINGS, section]
    keys = [_hash([*made_from, draw.seed, draw.labels.tolist()]) for draw in draws]
    paths = [cache / "predictions" / f"{key}.npz" for key in keys]
    missing = [i for i, path in enumerate(paths) if not path.exists()]
    prepared = cache / "prepared" / f"{name}-{_hash(made_from)}"
    reason = ""
    if missing:
        print(f"{peer.name}: {len(missing)} of {len(draws)} draws to run", flush=True)
        written = _write_table(table, cache / "sections" / f"{section}.h5ad")
        plan = {"table": str(written), "prepared": str(prepared)}
        (cache / "predictions").mkdir(parents=True, exist_ok=True)
        try:
            reason = _run(peer, plan, [(draws[i], paths[i]) for i in missing], python())
        except environment.EnvironmentMissing as error:
            reason = str(error)
    clock = prepared / "seconds.json"
    once = float(json.loads(clock.read_text(encoding="utf-8"))) if clock.exists() else 0.0
    return Answer([_read(path) if path.exists() else None for path in paths], reason, once)


def table_digest(table: AnnData) -> str:
    """SHA-256 of a section's counts, genes and, where it has them, positions."""
    digest = hashlib.sha256("\n".join(map(str, table.var_names)).encode())
    places = [table.obsm["spatial"]] if "spatial" in table.obsm else []
    for array in (table.X.data, table.X.indices, table.X.indptr, *places):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _run(peer: Peer, plan: dict[str, Any], draws: list[tuple[Draw, Path]], python: Path) -> str:
    """Run the worker; "" or the last thing that it said before it failed."""
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder)
        labels = {f"draw_{i}": np.array([name or "" for name in draw.labels]) for i, (draw, _) in enumerate(draws)}
        np.savez(job / "labels.npz", **labels)
        plan["draws"] = [
            {"labels": f"draw_{i}", "seed": draw.seed, "out": str(path)} for i, (draw, path) in enumerate(draws)
        ]
        (job / "job.json").write_text(json.dumps(plan), encoding="utf-8")
        command = [str(python), "-m", "benchmarks.peers.worker", peer.module, folder]
        done = subprocess.run(
            command,
            cwd=environment.ROOT,
            env={**os.environ, **_ONE_THREAD},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode == 0:
        return ""
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return said[-1] if said else f"its process ended with status {done.returncode}"


def _write_table(table: AnnData, path: Path) -> Path:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        AnnData(table.X, obs=table.obs[[]], var=table.var, obsm={"spatial": table.obsm["spatial"]}).write_h5ad(part)
        part.replace(path)
    return path


def _read(path: Path) -> Prediction:
    with np.load(path, allow_pickle=False) as stored:
        return Prediction(stored["called"], float(stored["seconds"]))


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
