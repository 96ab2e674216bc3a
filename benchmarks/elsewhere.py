"""The default classifier beside baselines on what the protocol's tables do not show: other tissue, panels and depths.

    python benchmarks/elsewhere.py                              # writes its tables into docs/benchmarks.md
    python benchmarks/elsewhere.py --only marrow --shots 5,50 --docs ""

Each set is a section (or cells without positions) with classes, cut in two; labels are drawn on one half, scores are
taken on the other, as :mod:`benchmarks.protocol` does. Draws are not those of the tables.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # run as a file, Python looks beside it only
    sys.path.insert(0, str(ROOT))

import anndata as ad  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from anndata import AnnData  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from scipy import sparse  # noqa: E402
from sklearn.exceptions import ConvergenceWarning  # noqa: E402

import stplm  # noqa: E402
from benchmarks import ours, protocol, scoring, tables  # noqa: E402
from benchmarks.methods import Method  # noqa: E402
from benchmarks.ours import Vectors  # noqa: E402
from benchmarks.protocol import ClassSet  # noqa: E402

DATA = protocol.ROOT.parent / "shared" / "data"
DOCS = ROOT / "docs" / "benchmarks.md"
FIRST_SEED = 10
FEWEST = 10
"""Cells that a class needs on either half."""
COUNTS = 10
"""Counts that a cell needs to be scored, where there are many with fewer; STPLM leaves those below it unassigned."""
STRIP, CLUSTERS = 24_000, 16
"""Of the bone marrow: cells, and the commonest clusters."""
MEASURES = ("macro_f1", "balanced_accuracy", "calibration_error")


def swapped(found: ClassSet) -> ClassSet:
    """Labels on the right, scores on the left."""
    return replace(found, name=f"{found.name}, swapped", left=found.right, right=found.left)


def thinned(found: ClassSet, share: float = 0.35) -> ClassSet:
    """Each molecule kept with a probability of ``share``."""
    table = found.table.copy()
    table.X = _thin(table.X, share)
    return _of_enough_counts(replace(found, name=f"{found.name}, {share:.0%} of the counts", table=table))


def strange(found: ClassSet, known: float = 0.35) -> ClassSet:
    """All but a share of the genes get names that nothing knows, as on a panel made for another tissue."""
    table = found.table.copy()
    lost = np.random.default_rng(0).random(table.n_vars) >= known
    names = np.where(lost, [f"UNKNOWN-{i}" for i in range(table.n_vars)], table.var_names.astype(str))
    table.var = pd.DataFrame(index=names)
    return replace(found, name=f"{found.name}, {(~lost).sum()} of {table.n_vars} genes known", table=table)


def panel(found: ClassSet, name: str) -> ClassSet:
    """Only the genes that are on another panel of 10x too."""
    genes = _panel_genes(name)
    table = found.table[:, found.table.var_names.isin(genes)].copy()
    title = f"{found.name}, its {table.n_vars} genes of the {_PANELS[name]} panel"
    return _of_enough_counts(replace(found, name=title, table=table))


def sequenced(rules: ModuleType, column: str, name: str) -> ClassSet:
    """Sequenced cells of another patient's breast tumour (Wu et al., 2021), on the genes of a Xenium panel: 52 counts a
    cell (median) on that of immuno-oncology, 101 on Prime 5K; random halves."""
    table = ad.read_h5ad(DATA / "scrna_breast_wu" / "CID4465_1564.h5ad")
    named = table.obs[column].astype(str).to_numpy(dtype=object)
    table = table[:, table.var_names.isin(_panel_genes(name))]
    table = AnnData(sparse.csr_matrix(table.X, dtype=np.float32), var=pd.DataFrame(index=table.var_names))
    truth = np.where(_depth(table) >= COUNTS, named, None)
    half = np.random.default_rng(0).random(table.n_obs) < 0.5
    kind = column.removeprefix("celltype_")
    title = f"single cells, {kind} types, {table.n_vars} genes of the {_PANELS[name]} panel"
    truth, left, right = protocol.common_classes(truth, half, ~half, FEWEST)
    return ClassSet(title, table, truth, left, right, (), rules)


def marrow(rules: ModuleType) -> ClassSet:
    """A strip of a bone marrow section, another tissue and panel; its classes are clusters of the same counts."""
    folder = DATA / "xenium_bone_marrow"
    table = stplm.cell_table(stplm.read_section(folder / "cell_feature_matrix.h5"))
    meta = pd.read_parquet(folder / "cell_metadata.parquet").loc[table.obs_names]
    cluster = pd.read_parquet(folder / "cluster.parquet").loc[table.obs_names, "cluster"].astype(str)
    table.obsm["spatial"] = np.stack(meta["geometry"].to_numpy()).astype(np.float64)
    strip = np.sort(np.argsort(table.obsm["spatial"][:, 1], kind="stable")[:STRIP])
    table = table[strip].copy()
    common = cluster.iloc[strip].value_counts().index[:CLUSTERS]
    named = cluster.iloc[strip]
    truth = np.where(named.isin(common) & (_depth(table) >= COUNTS), named.to_numpy(dtype=object), None)
    halves = protocol.halves(table.obsm["spatial"][:, 0])
    truth, left, right = protocol.common_classes(truth, *halves, FEWEST)
    return ClassSet("bone marrow, clusters", table, truth, left, right, (), rules)


def all_sets(rules: ModuleType) -> dict[str, Callable[[], ClassSet]]:
    """What is run, in the order of the tables, by a short name."""

    def coarse() -> ClassSet:
        return protocol.coarse(rules)

    def fine() -> ClassSet:
        return protocol.fine(rules)

    return {
        "coarse-swapped": lambda: swapped(coarse()),
        "fine-swapped": lambda: swapped(fine()),
        "thinned": lambda: thinned(coarse()),
        "panel": lambda: panel(coarse(), "hIO"),
        "strange": lambda: strange(coarse()),
        "major": lambda: sequenced(rules, "celltype_major", "hIO"),
        "minor": lambda: sequenced(rules, "celltype_minor", "hIO"),
        "major-5k": lambda: sequenced(rules, "celltype_major", "hPrime5K"),
        "minor-5k": lambda: sequenced(rules, "celltype_minor", "hPrime5K"),
        "marrow": lambda: marrow(rules),
    }


def methods(rules: ModuleType) -> list[Method]:
    """The default; the same whose model is not adapted to what it hardly knows; and what needs no model."""
    return [
        Method("STPLM", ours.default, Vectors()),
        Method("STPLM, never adapted", ours.default, Vectors(adapt=False)),
        Method("logistic regression", rules.logistic),
        Method("logistic regression on 30 principal components", rules.pca_logistic),
    ]


def page(found: dict[str, list[scoring.Row]], seeds: int) -> str:
    """A row a set and method, a table a measure; then where the default is behind."""
    parts = []
    for measure in MEASURES:
        shots = list(next(iter(found.values()))[0].scores)
        lines = [f"| {tables.MEASURES[measure]} | | " + " | ".join(shots) + " |", "|---|---|" + "---|" * len(shots)]
        losses = []
        for name, rows in found.items():
            body = tables.table(rows, measure, shots, seeds).splitlines()[2:]
            lines += [f"| {name if i == 0 else ''} {line}" for i, line in enumerate(body)]
            losses += [f"{name}: {sentence}" for sentence in tables.behind(rows, measure, shots)]
        parts.append("\n".join(lines))
        if measure != "calibration_error":
            said = "".join(f"\n- {sentence}" for sentence in losses) or " nowhere."
            parts.append(f"Where the default is behind (paired over draws):{said}")
    return "\n\n".join(parts)


def main() -> None:
    """Run the comparison; write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    protocol.add_options(parser, DOCS)
    parser.add_argument("--only", help="sets by their short names, comma between")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    rules = protocol.load_protocol(arguments.protocol)
    shots = protocol.shots_of(arguments)
    sets = all_sets(rules)
    found = {}
    for name in arguments.only.split(",") if arguments.only else sets:
        class_set = sets[name]()
        rows = scoring.compare(methods(rules), class_set, shots, arguments.seeds, first_seed=FIRST_SEED)
        found[f"{class_set.name} ({len(class_set.classes)} classes)"] = rows
    if arguments.json:
        plain = {name: [row.to_dict() for row in rows] for name, rows in found.items()}
        arguments.json.write_text(json.dumps(plain, indent=1), encoding="utf-8")
    text = page(found, arguments.seeds)
    tables.show(arguments.docs, text, "benchmarks/elsewhere.py")


_PANELS = {"hIO": "immuno-oncology", "hPrime5K": "Prime 5K"}


def _panel_genes(name: str) -> set[str]:
    frame = pd.read_csv(DATA / "xenium_panels" / f"{name}.csv")
    return set(frame[frame.columns[0]].astype(str))


def _of_enough_counts(found: ClassSet) -> ClassSet:
    enough = _depth(found.table) >= COUNTS
    return replace(found, left=found.left & enough, right=found.right & enough)


def _depth(table: AnnData) -> NDArray[np.float64]:
    return np.asarray(table.X.sum(1), dtype=np.float64).ravel()


def _thin(counts: sparse.spmatrix, share: float) -> sparse.csr_matrix:
    kept = sparse.csr_matrix(counts, dtype=np.float32)
    kept.data = np.random.default_rng(0).binomial(kept.data.astype(np.int64), share).astype(np.float32)
    kept.eliminate_zeros()
    return kept


if __name__ == "__main__":
    main()
