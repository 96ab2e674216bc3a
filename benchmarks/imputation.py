"""Imputation: genes of a labelled section are hidden and predicted, beside simple baselines and a peer.

    python benchmarks/imputation.py                 # writes docs/imputation.md
    python benchmarks/imputation.py --folds 2 --docs ""

Two settings, over folds of the panel's genes. *Masked*: a fold's genes are hidden in a random half of the cells; the
other half may be learnt from. *Unmeasured*: they are hidden in every cell, and a single-cell reference has them. A
method predicts the hidden counts; the score of a gene is Pearson's r and the cosine between prediction and truth, both
log-normalised by the counts of the genes that stayed visible, over the cells where the gene was hidden. Shown is the
median over genes. The peer runs in its own environment (``--peer``), on the unmeasured setting alone.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # run as a file, Python looks beside it only
    sys.path.insert(0, str(ROOT))

import anndata as ad  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from anndata import AnnData  # noqa: E402
from sklearn.decomposition import PCA  # noqa: E402
from sklearn.neighbors import NearestNeighbors  # noqa: E402

import stplm  # noqa: E402
from benchmarks import protocol, tables  # noqa: E402
from benchmarks.peers import environment, jobs  # noqa: E402
from stplm.io.cell_table import counts_matrix  # noqa: E402
from stplm.tasks.cells import table_genes  # noqa: E402

DOCS = ROOT / "docs" / "imputation.md"
REFERENCE = protocol.ROOT.parent / "shared" / "data" / "scrna_breast_wu" / "CID4465_1564.h5ad"
COMPONENTS, NEAR = 30, (15, 50, 100)
SPATIAL_NEIGHBOURS = 12


@dataclass(frozen=True)
class Task:
    """One fold: ``genes`` are hidden in the cells ``hidden`` (n,); ``visible`` are the section's other genes."""

    table: AnnData
    genes: list[str]
    visible: list[str]
    hidden: np.ndarray
    reference: AnnData

    def level(self, counts: np.ndarray) -> np.ndarray:
        """Log-normalised by the counts of the visible genes."""
        depth = np.asarray(self.table[:, self.visible].X.sum(1))
        return np.log1p(100 * counts / np.maximum(depth, 1)).astype(np.float32)

    def truth(self) -> np.ndarray:
        """Log-normalised counts (n_cells, n_genes) of the hidden genes, those of hidden cells too."""
        return self.level(self.table[:, self.genes].X.toarray())

    def without(self) -> AnnData:
        """The section without the genes."""
        return self.table[:, self.visible].copy()


Method = Callable[[Task], np.ndarray]


def stplm_masked(task: Task) -> np.ndarray:
    """Ours, where some cells show the genes."""
    return task.level(stplm.impute(task.table.copy(), genes=task.genes, hidden=task.hidden).to_numpy())


def stplm_decoder(task: Task) -> np.ndarray:
    """Ours, from what the bundled model learnt in pretraining alone."""
    return task.level(stplm.impute(task.without(), genes=task.genes).to_numpy())


def stplm_reference(task: Task) -> np.ndarray:
    """Ours, from the reference."""
    return task.level(stplm.impute(task.without(), genes=task.genes, reference=task.reference).to_numpy())


def neighbour_mean(task: Task) -> np.ndarray:
    """Mean of the nearest cells on the tissue that show the gene."""
    shown, xy = np.flatnonzero(~task.hidden), task.table.obsm["spatial"]
    near = NearestNeighbors(n_neighbors=SPATIAL_NEIGHBOURS).fit(xy[shown]).kneighbors(xy, return_distance=False)
    return task.truth()[shown][near].mean(1)


def knn(k: int) -> Method:
    """Mean of the nearest cells that show the gene, on principal components of the visible genes."""

    def predict(task: Task) -> np.ndarray:
        level = task.level(task.table[:, task.visible].X.toarray())
        scores, shown = PCA(COMPONENTS, random_state=0).fit_transform(level), np.flatnonzero(~task.hidden)
        near = NearestNeighbors(n_neighbors=k).fit(scores[shown]).kneighbors(scores, return_distance=False)
        return task.truth()[shown][near].mean(1)

    return predict


def knn_reference(k: int) -> Method:
    """Mean of the nearest cells of the reference, on principal components of section and reference together."""

    def predict(task: Task) -> np.ndarray:
        here = task.level(task.table[:, task.visible].X.toarray())
        counts = task.reference[:, task.visible].X.toarray()
        depth = np.maximum(counts.sum(1, keepdims=True), 1)
        there = np.log1p(100 * counts / depth)
        values = np.log1p(100 * task.reference[:, task.genes].X.toarray() / depth)
        pca = PCA(COMPONENTS, random_state=0).fit(np.vstack([here, there]))
        search = NearestNeighbors(n_neighbors=k).fit(pca.transform(there))
        return values[search.kneighbors(pca.transform(here), return_distance=False)].mean(1)

    return predict


class GimVI:
    """scvi-tools' gimVI, in the peers' environment. What it imputed is kept by what it depends on.

    ``seconds``: processor time of the last call's run, whenever that was.
    """

    seconds = 0.0

    def __call__(self, task: Task) -> np.ndarray:
        """Log-normalised, (n_cells, n_genes)."""
        kept = jobs.CACHE / "imputation" / f"{self._key(task)}.parquet"
        if not kept.is_file():
            kept.parent.mkdir(parents=True, exist_ok=True)
            self._run(task).to_parquet(kept)
        rates = pd.read_parquet(kept)
        self.seconds = float(rates.attrs["seconds"])
        return np.log1p(100 * rates[task.genes].to_numpy())

    @staticmethod
    def _run(task: Task) -> pd.DataFrame:
        began = _seconds_of_others()
        with tempfile.TemporaryDirectory() as folder:
            job = Path(folder)
            task.without().write_h5ad(job / "spatial.h5ad")
            task.reference[:, [*task.visible, *task.genes]].copy().write_h5ad(job / "reference.h5ad")
            command = [str(environment.python()), "-m", "benchmarks.peers.gimvi", folder]
            subprocess.run(command, cwd=environment.ROOT, check=True, capture_output=True)
            rates = pd.read_parquet(job / "imputed.parquet")
        rates.attrs["seconds"] = _seconds_of_others() - began
        return rates

    @staticmethod
    def _key(task: Task) -> str:
        digest = hashlib.sha256((environment.HERE / "gimvi.py").read_bytes() + environment.REQUIREMENTS.read_bytes())
        digest.update("\n".join([jobs.table_digest(task.table), *task.reference.var_names, "", *task.genes]).encode())
        for array in (task.reference.X.indptr, task.reference.X.indices, task.reference.X.data):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:24]


MASKED: dict[str, Method] = {
    "**STPLM**": stplm_masked,
    "STPLM's decoder alone": stplm_decoder,
    f"mean of the {SPATIAL_NEIGHBOURS} nearest cells on the tissue": neighbour_mean,
    **{f"nearest {k} cells on {COMPONENTS} principal components": knn(k) for k in NEAR},
}
UNMEASURED: dict[str, Method] = {
    "**STPLM**, from the reference": stplm_reference,
    **{f"nearest {k} reference cells on {COMPONENTS} principal components": knn_reference(k) for k in NEAR},
}


def tasks(n_folds: int, hide: float) -> list[Task]:
    """Folds of the genes that section and reference share; a share ``hide`` of the cells is hidden."""
    table = protocol.load_protocol().load()[0]
    table.X = counts_matrix(table)
    reference = ad.read_h5ad(REFERENCE)
    reference = by_symbol(reference, table)
    shared = [g for g in table.var_names if g in reference.var_names]
    random = np.random.default_rng(0)
    fold = random.permutation(len(shared)) % 5
    hidden = random.random(table.n_obs) < hide
    found = []
    for i in range(n_folds):
        genes = [g for g, f in zip(shared, fold, strict=True) if f == i]
        visible = [g for g in (shared if hide == 1 else table.var_names) if g not in set(genes)]
        found.append(Task(table, genes, visible, hidden, reference))
    return found


def by_symbol(reference: AnnData, table: AnnData) -> AnnData:
    """The reference's genes of the section under the section's symbols."""
    places = {gene: i for i, gene in enumerate(table_genes(reference)) if gene}
    kept = [(s, places[g]) for s, g in zip(table.var_names, table_genes(table), strict=True) if g in places]
    part = reference[:, [place for _, place in kept]].copy()
    part.var = pd.DataFrame({"ensembl_id": table_genes(reference)[[p for _, p in kept]]}, index=[s for s, _ in kept])
    part.X = counts_matrix(part)
    return part


def scores(methods: dict[str, Method], folds: list[Task]) -> pd.DataFrame:
    """Median over all genes of r and cosine, the share of genes where ours is ahead, processor seconds a fold; a method
    a row."""
    r, cosine, seconds = {}, {}, {}
    for name, method in methods.items():
        found, took = [], []
        for task in folds:
            print(f"{name}: {len(task.genes)} genes", file=sys.stderr, flush=True)
            start = time.process_time()
            found.append((method(task)[task.hidden], task.truth()[task.hidden]))
            took.append(method.seconds if isinstance(method, GimVI) else time.process_time() - start)
        seconds[name] = float(np.mean(took))
        r[name] = np.concatenate([correlation(a - a.mean(0), b - b.mean(0)) for a, b in found])
        cosine[name] = np.concatenate([correlation(a, b) for a, b in found])
    ours = np.nan_to_num(next(iter(r.values())))
    return pd.DataFrame(
        {
            "r": {n: np.median(np.nan_to_num(v)) for n, v in r.items()},
            "cosine": {n: np.median(np.nan_to_num(v)) for n, v in cosine.items()},
            "ahead": {n: np.mean(ours > np.nan_to_num(v)) for n, v in r.items()},
            "seconds": seconds,
        }
    )


def _seconds_of_others() -> float:
    """Processor time of the processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of each column."""
    spread = np.sqrt((a.astype(float) ** 2).sum(0) * (b.astype(float) ** 2).sum(0))
    return np.divide((a * b).sum(0), spread, out=np.zeros(len(spread)), where=spread > 0)


def shown(frame: pd.DataFrame) -> str:
    """As a table for the page."""
    lines = [
        "| method | median r | median cosine | genes where STPLM's r is higher | processor seconds a fold |",
        "|---|---|---|---|---|",
    ]
    for i, (name, row) in enumerate(frame.iterrows()):
        ahead = "" if i == 0 else f"{row.ahead:.0%}"
        lines.append(f"| {name} | {row.r:.3f} | {row.cosine:.3f} | {ahead} | {row.seconds:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Run both settings; write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, default=5, choices=range(1, 6))
    parser.add_argument("--peer", action="store_true", help="run gimVI too (its environment, some minutes a fold)")
    parser.add_argument("--docs", default=str(DOCS), help='page whose tables are replaced; "" prints them')
    arguments = parser.parse_args()
    masked = scores(MASKED, tasks(arguments.folds, 0.5))
    methods = {
        **UNMEASURED,
        **({"gimVI (scvi-tools " + environment.pinned("scvi-tools") + ")": GimVI()} if arguments.peer else {}),
    }
    unmeasured = scores(methods, tasks(arguments.folds, 1))
    text = (
        f"### Masked in half of the cells\n\n{shown(masked)}\n\n"
        f"### Unmeasured, from a single-cell reference\n\n{shown(unmeasured)}\n\n"
        f"Folds of genes run: {arguments.folds} of 5."
    )
    tables.show(arguments.docs, text, "benchmarks/imputation.py")


if __name__ == "__main__":
    main()
