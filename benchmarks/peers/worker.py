"""The far end of ``jobs.py``, in the peers' environment: ``python -m benchmarks.peers.worker MODULE JOB``.

``JOB`` is a folder with ``job.json`` (section, folder of what is prepared, and for each draw its seed and
where its prediction goes) and ``labels.npz`` (names by draw, "" for no label). Each prediction is written at once, so
that a killed run loses one draw.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from importlib import import_module
from pathlib import Path

import anndata as ad
import numpy as np


def main() -> None:
    """Prepare the section once, then predict draw by draw."""
    warnings.filterwarnings("ignore")
    module, job = import_module(sys.argv[1]), Path(sys.argv[2])
    plan = json.loads((job / "job.json").read_text(encoding="utf-8"))
    prepared_folder = Path(plan["prepared"])
    prepared_folder.mkdir(parents=True, exist_ok=True)
    start = time.process_time()
    prepared = module.prepare(ad.read_h5ad(plan["table"]), prepared_folder)
    clock = prepared_folder / "seconds.json"
    if not clock.exists():
        clock.write_text(json.dumps(time.process_time() - start), encoding="utf-8")
    with np.load(job / "labels.npz", allow_pickle=False) as stored:
        drawn = {name: stored[name] for name in stored.files}
    for draw in plan["draws"]:
        labels = np.array([name or None for name in drawn[draw["labels"]].tolist()], dtype=object)
        start = time.process_time()
        called = np.asarray(module.predict(prepared, labels, draw["seed"])).astype(str)
        seconds = time.process_time() - start
        out = Path(draw["out"])
        part = out.with_name(out.stem + ".part.npz")
        np.savez_compressed(part, called=called, seconds=seconds)
        part.replace(out)


if __name__ == "__main__":
    main()
