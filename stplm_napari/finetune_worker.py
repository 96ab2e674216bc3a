"""What the training process does for the Fine-tune dock, in a run's folder (see ``runs.py``). No Qt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from stplm.errors import Cancelled
from stplm.io.staged import make_folder, staged_file
from stplm.progress import Progress
from stplm_napari import tasks
from stplm_napari.results import Result
from stplm_napari.runs import CHECKPOINT, HISTORY, MODEL, OUTCOME, RESULT, STOP, TABLE

TRIALS, STORAGE = "trials.jsonl", "study"


def finetune_in_folder(folder: Path, params: Mapping[str, Any], progress: Progress) -> None:
    """Fine-tune, or go on; compare with the few-shot head; predict. ``outcome.json`` comes last, when all is there.

    It holds ``note`` (the model's provenance of its fine-tuning), ``stopped_at`` (None: ran to its end) and
    ``comparison`` (None where nothing was held out).
    """
    import anndata

    import stplm
    from stplm.tasks.compare import HeldOut, compare

    table = anndata.read_h5ad(folder / TABLE)
    held_out: list[HeldOut] = []
    tuned = tasks.finetune(
        table,
        params,
        checkpoint=folder / CHECKPOINT,
        resume=True,
        history=folder / HISTORY,
        stop=(folder / STOP).exists,
        on_held_out=held_out.append,
        progress=progress,
    )
    tuned.save(folder / MODEL, overwrite=True)
    compared = compare(held_out[0], [table], params["model"], device=params["device"]) if held_out else None
    stplm.predict(table, tuned)
    Result.prediction_of(table).save(make_folder(folder / RESULT))
    note = tuned.provenance["finetune"]
    outcome = {
        "note": note,
        "stopped_at": note["stopped_at"],
        "comparison": None if compared is None else compared.to_json(),
    }
    with staged_file(folder / OUTCOME) as part:
        part.write_text(json.dumps(outcome, indent=1), encoding="utf-8")


def search_in_folder(folder: Path, params: Mapping[str, Any], progress: Progress) -> None:
    """Search the settings for ``params["seconds"]``; told to stop, the best so far is the result."""
    import anndata

    import stplm
    from stplm.tasks.finetune_config import FinetuneConfig

    table = anndata.read_h5ad(folder / TABLE)
    labels, tumour = tasks.labels_and_tumour(table, params)
    trials: list[dict[str, Any]] = []
    given = FinetuneConfig(**params["config"])

    def on_trial(row: dict[str, Any]) -> None:
        trials.append(row)
        with (folder / TRIALS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, default=str) + "\n")

    def until_stopped(done: int, total: int) -> None:
        progress(done, total)
        if (folder / STOP).exists():
            raise Cancelled

    def search(tell: Progress, most: int | None) -> Any:
        return stplm.tune(
            params["model"],
            table,
            labels,
            budget=params["seconds"],
            trials=most,
            config=replace(given, minutes=0.0),
            tumour_classes=tumour,
            seed=params.get("seed", 0),
            storage=folder / STORAGE,
            device=params["device"],
            progress=tell,
            on_trial=on_trial,
        )

    try:
        found = search(until_stopped, None)
    except Cancelled:
        if not (folder / STOP).exists():
            raise
        ended = sum(row["trial"] > 0 and row["state"] != "stopped" for row in trials)
        found = search(progress, ended) if ended else None
    outcome: dict[str, Any] = {"config": None, "reason": "Stopped before a trial ended: the settings are as they were."}
    if found is not None:
        scores = found.scores or found.search_scores
        outcome = {
            "config": {**found.config.to_dict(), "minutes": given.minutes},
            "reason": found.reason,
            "scores": scores,
            "unseen": bool(found.scores),
            "trials": len(found.trials) - 1,
        }
    with staged_file(folder / OUTCOME) as part:
        part.write_text(json.dumps(outcome, indent=1), encoding="utf-8")
