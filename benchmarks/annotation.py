"""Few-shot cell typing on a labelled Xenium section: the default classifier beside baselines and ablations.

    python benchmarks/annotation.py                        # all of it; writes docs/benchmarks.md
    python benchmarks/annotation.py --shots 5,10 --seeds 2 --json scores.json --docs ""

The split, the draw of labels and two of the baselines are the protocol's own (``--protocol``), so every method sees the
same labels and is scored on the same cells. ``stplm_default`` is a predictor for that file as well:

    python ../shared/protocols/fewshot.py --predictor benchmarks.annotation:stplm_default
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import hashlib
import importlib.util
import json
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import balanced_accuracy_score, f1_score

import stplm
from stplm import keys
from stplm.evaluation.calibration import expected_calibration_error
from stplm.tasks import features

ROOT = Path(__file__).resolve().parents[1]
PROTOCOL = ROOT.parent / "shared" / "protocols" / "fewshot.py"
DOCS = ROOT / "docs" / "benchmarks.md"
START, END = "<!-- measured by benchmarks/annotation.py -->", "<!-- end of what was measured -->"
MEASURES = {
    "macro_f1": "Macro-F1",
    "balanced_accuracy": "Balanced accuracy",
    "tumour_f1": "F1 of tumour against the rest",
}
PROFILE_NAMES = {"T cell": "T", "B cell": "B", "Plasma": "B"}
"""The reference profiles' classes in the protocol's names, where they differ and there is one."""

Predictor = Callable[[AnnData, np.ndarray, int], np.ndarray]


def stplm_default(table: AnnData, labels: np.ndarray, seed: int) -> np.ndarray:
    """What a user gets with the bundled model and no setting changed: a class name for every cell.

    The section is embedded once in a process; ``table`` gains what ``stplm.embed`` and ``stplm.predict`` write.
    """
    embed_once(table)
    stplm.predict(table, stplm.fit_classifier(table, labels, seed=seed))
    return table.obs[keys.CLASS].astype(object).fillna(keys.UNASSIGNED).to_numpy(dtype=str)


def with_tissue(table: AnnData, labels: np.ndarray, seed: int) -> np.ndarray:
    """Ablation: the head sees the tissue part of the vectors too."""
    embed_once(table)
    note = table.uns[keys.UNS][keys.UNS_EMBEDDING]
    note["own_dim"] = note["dim"]
    return stplm_default(table, labels, seed)


def without_profiles(table: AnnData, labels: np.ndarray, seed: int) -> np.ndarray:
    """Ablation: the head does not see how well a cell fits the reference profiles."""
    with _features(lambda f: replace(f, fit=f.fit[:, :0])):
        return stplm_default(table, labels, seed)


def without_model(table: AnnData, labels: np.ndarray, seed: int) -> np.ndarray:
    """Ablation: the head does not see the model's vectors."""
    with _features(lambda f: replace(f, own=f.own[:, :0])):
        return stplm_default(table, labels, seed)


def without_shares(table: AnnData, labels: np.ndarray, seed: int) -> np.ndarray:
    """Ablation: every class is taken to be as common as any other."""
    flat = mock.patch("stplm.tasks.classify._log_prior", lambda p: np.full(p.shape[1], -np.log(p.shape[1])))
    with flat:
        return stplm_default(table, labels, seed)


def nearest(table: AnnData, labels: np.ndarray, seed: int) -> np.ndarray:
    """Baseline: the 5 nearest labelled cells (fewer with fewer labels) on 30 principal components."""
    from sklearn.decomposition import PCA
    from sklearn.neighbors import KNeighborsClassifier

    known = np.array([name is not None for name in labels])
    levels = np.log1p(table.X.multiply(100 / np.maximum(table.X.sum(1), 1)).toarray()).astype(np.float32)
    scores = PCA(30, random_state=0).fit_transform(levels)
    names = labels[known].astype(str)
    k = min(5, int(pd.Series(names).value_counts().min()))
    return KNeighborsClassifier(k, weights="distance").fit(scores[known], names).predict(scores)


@contextlib.contextmanager
def _features(change: Callable[[features.Features], features.Features]) -> Iterator[None]:
    with mock.patch("stplm.tasks.classify.cell_features", lambda table: change(features.cell_features(table))):
        yield


_embedded: dict[str, tuple[np.ndarray, dict[str, Any]]] = {}


def embed_once(table: AnnData) -> None:
    """``stplm.embed`` with the bundled model; a table of the same content takes the vectors found before."""
    if keys.X_STPLM in table.obsm:
        return
    digest = hashlib.sha256("\n".join(map(str, table.var_names)).encode())
    for array in (table.X.data, table.X.indices, table.X.indptr, table.obsm[keys.SPATIAL]):
        digest.update(np.ascontiguousarray(array).tobytes())
    key = digest.hexdigest()
    if key not in _embedded:
        stplm.embed(table, clusters=0)
        _embedded[key] = table.obsm[keys.X_STPLM], copy.deepcopy(table.uns[keys.UNS][keys.UNS_EMBEDDING])
    vectors, note = _embedded[key]
    table.obsm[keys.X_STPLM] = vectors
    table.uns.setdefault(keys.UNS, {})[keys.UNS_EMBEDDING] = copy.deepcopy(note)


def load_protocol(path: Path = PROTOCOL) -> ModuleType:
    """The protocol file as a module."""
    spec = importlib.util.spec_from_file_location("fewshot_protocol", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise SystemExit(f"The protocol was not found at {path}; say where it is with --protocol.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def methods_of(protocol: ModuleType) -> dict[str, Predictor]:
    """What is compared, by the name that the table shows."""
    return {
        "**STPLM**": stplm_default,
        "logistic regression": protocol.logistic,
        "logistic regression on 30 principal components": protocol.pca_logistic,
        "nearest neighbours on 30 principal components": nearest,
        "STPLM, with the tissue part of the vectors": with_tissue,
        "STPLM, without the profiles": without_profiles,
        "STPLM, without the model's vectors": without_model,
        "STPLM, without the correction for class shares": without_shares,
    }


def compare(
    protocol: ModuleType, methods: dict[str, Predictor], shots: list[int | None], seeds: int
) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Scores ``{method: {shots: [one dict a seed]}}`` on the cells that the protocol scores."""
    table, truth, left, right = protocol.load()
    true = truth[right].astype(str)
    scores: dict[str, dict[str, list[dict[str, float]]]] = {}
    for name, predictor in methods.items():
        for k in shots:
            rows = []
            # "all" labels are the same for every seed.
            for seed in range(seeds if k else 1):
                ours = table.copy()
                labels = protocol.draw(truth, left, k, seed)
                if "STPLM" in name:
                    embed_once(ours)
                start = time.perf_counter()
                called = np.asarray(predictor(ours, labels, seed)).astype(str)[right]
                row = {
                    "macro_f1": f1_score(true, called, average="macro"),
                    "balanced_accuracy": balanced_accuracy_score(true, called),
                    "tumour_f1": f1_score(true == "Tumour", called == "Tumour"),
                    "seconds": time.perf_counter() - start,
                }
                if keys.CONFIDENCE in ours.obs:
                    confidence = ours.obs[keys.CONFIDENCE].to_numpy()[right]
                    row["calibration_error"] = expected_calibration_error(confidence, called == true)
                rows.append({key: round(float(value), 4) for key, value in row.items()})
            scores.setdefault(name, {})[str(k or "all")] = rows
            print(f"{name:50s} {k or 'all':>4}  {np.mean([r['macro_f1'] for r in rows]):.3f}", flush=True)
    return scores


def without_a_click(protocol: ModuleType) -> dict[str, float]:
    """Scores on the same cells where the labels are seeds from the reference profiles."""
    table, truth, _, right = protocol.load()
    embed_once(table)
    stplm.predict(table, stplm.fit_classifier(table, stplm.seed_labels(table), seeded=True))
    table.obs[keys.CLASS] = table.obs[keys.CLASS].astype(object).replace(PROFILE_NAMES)
    score = stplm.evaluate(table, pd.Series(truth, index=table.obs_names), cells=right)
    chosen = {name: score[name] for name in ("accuracy", "balanced_accuracy", "calibration_error")}
    return {**chosen, "tumour_f1": score["tumour"]["f1"], "tumour_auroc": score["tumour"]["auroc"]}


def to_markdown(scores: dict[str, dict[str, list[dict[str, float]]]], seeded: dict[str, float]) -> str:
    """The tables of the page."""
    shots = list(next(iter(scores.values())))
    head = "| labels a class | " + " | ".join(shots) + " |\n|---|" + "---|" * len(shots) + "\n"
    parts = []
    for measure, title in MEASURES.items():
        rows = [f"| {name} | " + " | ".join(_cell(by[k], measure) for k in shots) + " |" for name, by in scores.items()]
        parts.append(f"### {title}\n\n{head}" + "\n".join(rows) + "\n")
    ours = next(iter(scores.values()))
    rows = [
        f"| {title} | " + " | ".join(_cell(ours[k], measure, digits) for k in shots) + " |"
        for measure, title, digits in (
            ("calibration_error", "expected calibration error", 3),
            ("seconds", "seconds to learn and to predict 17,136 cells", 2),
        )
    ]
    parts.append(f"### Confidence and time of the default\n\n{head}" + "\n".join(rows) + "\n")
    words = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in seeded.items())
    parts.append(f"### Without a click\n\nSeeds from the reference profiles instead of labels: {words}.\n")
    return "\n".join(parts).replace("auroc", "AUROC").replace("tumour f1", "tumour F1")


def _cell(rows: list[dict[str, float]], measure: str, digits: int = 3) -> str:
    values = np.array([row[measure] for row in rows])
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{values.mean():.{digits}f} ± {values.std(ddof=1) / np.sqrt(len(values)):.{digits}f}"


def main() -> None:
    """Run the comparison; write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shots", default="1,5,10,50,all", help="labels a class, comma between")
    parser.add_argument("--seeds", type=int, default=5, help="draws of labels for each number of shots")
    parser.add_argument("--protocol", type=Path, default=PROTOCOL)
    parser.add_argument("--json", type=Path, help="write every seed's scores here")
    parser.add_argument("--docs", default=str(DOCS), help='page whose tables are replaced; "" for none')
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    protocol = load_protocol(arguments.protocol)
    shots = [None if s == "all" else int(s) for s in arguments.shots.split(",")]
    scores = compare(protocol, methods_of(protocol), shots, arguments.seeds)
    seeded = without_a_click(protocol)
    if arguments.json:
        arguments.json.write_text(json.dumps({"scores": scores, "without_a_click": seeded}, indent=1), encoding="utf-8")
    tables = to_markdown(scores, seeded)
    print(tables)
    if arguments.docs:
        page = Path(arguments.docs)
        before, _, rest = page.read_text(encoding="utf-8").partition(START)
        page.write_text(f"{before}{START}\n\n{tables}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
