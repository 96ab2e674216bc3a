"""Perturbation as a step: what the worker is asked, what it answers, and the lines that replay it. No Qt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stplm import keys
from stplm.progress import Progress, no_progress
from stplm_napari.handover import hand_over
from stplm_napari.script import Beside, writes

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from stplm.tasks.classifier import Classifier
    from stplm.tasks.perturb_arrows import Arrows
    from stplm.tasks.perturb_result import Perturbation
    from stplm_napari.process import WorkerProcess

ALL, SELECTED, CLASS, REGION = "all", "selected", "class", "region"
"""Where the cells of a perturbation come from: ``params["cells"]["from"]``."""
ADAPTED, TUNED = "adapted", "tuned"
"""Models of the session's own: ``params["model"]``, with ``params["folder"]`` where it lies."""
ENGINE = ("genes", "mode", "combine", "goal", "model", "nulls", "top", "max_cells", "dtype", "seed")
"""Parameters of a step that the engine takes as they are."""
_TABLE, _ROWS, _CLASSIFIER, _RESULT = "table.h5ad", "rows.npy", "classifier", "result"
_ARROWS = "arrows.npz"


def perturb_in_worker(
    table: AnnData,
    rows: NDArray[np.int64] | None,
    classifier: Classifier | None,
    params: Mapping[str, Any],
    folder: Path,
    worker: WorkerProcess,
    progress: Progress = no_progress,
) -> Perturbation:
    """``stplm.perturb`` in the worker process. Cells are ``rows`` (None: all); the result stays in ``folder``."""
    import anndata

    from stplm.tasks.perturb_result import Perturbation

    columns = [c for c in (keys.CLASS, keys.LABEL) if c in table.obs]
    positions = {keys.SPATIAL: table.obsm[keys.SPATIAL]} if keys.SPATIAL in table.obsm else {}
    lean = anndata.AnnData(table.X, obs=table.obs[columns], var=table.var, obsm=positions)
    hand_over(lean, folder / _TABLE)
    if rows is not None:
        np.save(folder / _ROWS, rows, allow_pickle=False)
    if classifier is not None:
        classifier.save(folder / _CLASSIFIER)
    worker.call("stplm_napari.perturb_tasks:perturb_in_folder", folder, dict(params), progress)
    (folder / _TABLE).unlink(missing_ok=True)
    return Perturbation.load(folder / _RESULT)


def perturb_in_folder(folder: Path, params: Mapping[str, Any], progress: Progress) -> None:
    """What the worker does for :func:`perturb_in_worker`."""
    import anndata

    import stplm

    table = anndata.read_h5ad(folder / _TABLE)
    rows = np.load(folder / _ROWS, allow_pickle=False) if (folder / _ROWS).is_file() else None
    given = {name: params[name] for name in ENGINE if params.get(name) not in (None, "")}
    given |= {"model": params["folder"]} if params.get("folder") else {}
    if (folder / _CLASSIFIER).is_dir():
        given["classifier"] = folder / _CLASSIFIER
    stplm.perturb(table, cells=rows, out=folder / _RESULT, progress=progress, **given)


def arrows_in_worker(
    table: AnnData, scenario: Path, gene: str, folder: Path, worker: WorkerProcess, progress: Progress = no_progress
) -> Arrows:
    """``stplm.map_arrows`` in the worker process, of the result that lies in the folder ``scenario``."""
    import anndata

    from stplm.tasks.perturb_arrows import Arrows

    own = table.uns.get(keys.UNS, {})
    lean = anndata.AnnData(
        obs=table.obs[[keys.CLUSTER]] if keys.CLUSTER in table.obs else table.obs[[]],
        obsm={name: table.obsm[name] for name in (keys.X_STPLM, keys.UMAP)},
        uns={keys.UNS: {name: own[name] for name in (keys.UNS_EMBEDDING, keys.UNS_MAP) if name in own}},
    )
    hand_over(lean, folder / _TABLE)
    given = {"scenario": str(scenario / _RESULT), "gene": gene}
    worker.call("stplm_napari.perturb_tasks:arrows_in_folder", folder, given, progress)
    with np.load(folder / _ARROWS, allow_pickle=False) as made:
        return Arrows(made["start"], made["end"], made["cells"])


def arrows_in_folder(folder: Path, params: Mapping[str, Any], progress: Progress) -> None:
    """What the worker does for :func:`arrows_in_worker`."""
    import anndata

    import stplm
    from stplm.tasks.perturb_result import Perturbation

    progress(0, 0)
    found = stplm.map_arrows(anndata.read_h5ad(folder / _TABLE), Perturbation.load(params["scenario"]), params["gene"])
    np.savez(folder / _ARROWS, start=found.start, end=found.end, cells=found.cells)


def result_of(folder: Path) -> Path:
    """Where the result lies in a scenario's folder."""
    return folder / _RESULT


def variable(scenario: str) -> str:
    """What a scenario's result is called in a script."""
    return f"scenario_{scenario}"


@writes("perturb", "Genes perturbed in silico: the model's response, not a causal claim")
def _perturb(params: Mapping[str, Any], beside: Beside) -> list[str]:
    given = {name: params[name] for name in ENGINE if params.get(name) not in (None, "")}
    model = repr(given.pop("model", "default"))
    if params.get("folder"):
        model = "tuned" if params["model"] == TUNED else f"OUT / {ADAPTED!r}"
    cells = params["cells"]
    if cells["from"] == CLASS:
        chosen = f"(table.obs[{keys.CLASS!r}] == {cells['name']!r}).to_numpy()"
    elif cells["from"] == ALL:
        chosen = "None"
    else:
        chosen = f"{beside.labels_of({'perturbed': cells['ids']})}['perturbed']"
    words = "".join(f", {name}={value!r}" for name, value in given.items())
    judged = ", classifier=classifier" if params.get("classifier") else ""
    return [
        f"perturbed = {chosen}",
        f"{variable(params['name'])} = stplm.perturb(table, {model}, cells=perturbed{words}{judged})",
        "OUT.mkdir(exist_ok=True)",
        f"{variable(params['name'])}.genes.to_csv(OUT / {'perturbation-' + params['name'] + '.csv'!r}, index=False)",
    ]
