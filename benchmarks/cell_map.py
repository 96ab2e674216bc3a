"""Time to put all cells on a map: ``stplm.umap`` against umap-learn's own fit and transform.

umap-learn is run on what it can do, and its time for more cells is extrapolated in proportion (its fit takes at least
that), which is said. Cells are drawn from an embedded section with a little noise, so that any number can be had.
Trustworthiness (van der Maaten 2009) of 4,000 cells stands beside each time.

    python benchmarks/cell_map.py SECTION.h5ad --cells 10000 100000 1000000
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

_REFERENCE_CELLS = 10_000
JUDGED = 4_000


def main() -> None:
    """Print one line per size, then the growth."""
    import stplm
    from stplm import keys
    from stplm.tasks.umap import map_vectors

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", help="a section; embedded first where it is not")
    parser.add_argument("--cells", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    args = parser.parse_args()
    table = stplm.cell_table(stplm.read_section(args.section, images=False, labels=False))
    if keys.X_STPLM not in table.obsm:
        stplm.embed(table)
    source = np.asarray(table.obsm[keys.X_STPLM])
    groups = table.obs[keys.CLUSTER].cat.codes.to_numpy()
    map_vectors(source[:2_000], sample=1_000)  # numba compiles

    rows = draw(_REFERENCE_CELLS, len(source))
    vectors = noisy(source, rows)
    ours, wall, cpu = timed(lambda: map_vectors(vectors, groups[rows]))
    theirs, reference, reference_cpu = timed(lambda: by_umap_learn(vectors))
    print(f"{len(rows):>9,} cells  ours {wall:7.1f} s (CPU {cpu:.1f})  trust {trust(vectors, ours):.3f}")
    print(
        f"{len(rows):>9,} cells  umap-learn {reference:7.1f} s (CPU {reference_cpu:.1f})  {trust(vectors, theirs):.3f}"
    )
    seconds = []
    for n in args.cells:
        rows = draw(n, len(source))
        vectors = noisy(source, rows)
        ours, wall, cpu = timed(lambda vectors=vectors, rows=rows: map_vectors(vectors, groups[rows]))
        seconds.append(cpu)
        ratio = reference_cpu * n / _REFERENCE_CELLS / cpu
        note = "" if n == _REFERENCE_CELLS else " (umap-learn extrapolated)"
        print(f"{n:>9,} cells  {wall:7.1f} s  CPU {cpu:7.1f} s  trust {trust(vectors, ours):.3f}  {ratio:.1f} x{note}")
    print(f"growth exponent of CPU time {growth(args.cells, seconds):.2f}")


def draw(n: int, of: int) -> np.ndarray:
    """Rows of the source, in random order, repeated where there are too few."""
    return np.random.default_rng(0).permutation(np.resize(np.arange(of), n))


def noisy(source: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Vectors of cells like those: no two are the same."""
    noise = np.random.default_rng(1).standard_normal((len(rows), source.shape[1]), dtype=np.float32)
    return source[rows] + 0.15 * source.std(axis=0) * noise


def by_umap_learn(vectors: np.ndarray) -> np.ndarray:
    """umap-learn's fit of one half and its transform of the other, with the same standardised columns and seed."""
    import umap

    scaled = (vectors - vectors.mean(axis=0)) / (vectors.std(axis=0) + 1e-6)
    half = len(scaled) // 2
    model = umap.UMAP(random_state=0, n_jobs=1).fit(scaled[:half])
    return np.concatenate([model.embedding_, model.transform(scaled[half:])])


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What it gives, its seconds, and its seconds of processor."""
    start, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - start, time.process_time() - cpu


def trust(vectors: np.ndarray, places: np.ndarray) -> float:
    """Trustworthiness of 15 neighbours."""
    from sklearn.manifold import trustworthiness

    rows = np.random.default_rng(2).choice(len(vectors), min(JUDGED, len(vectors)), replace=False)
    scaled = (vectors[rows] - vectors.mean(axis=0)) / (vectors.std(axis=0) + 1e-6)
    return float(trustworthiness(scaled, places[rows], n_neighbors=15))


def growth(cells: Sequence[int], seconds: Sequence[float]) -> float:
    """Exponent of time in cells, from the first to the last size."""
    if len(cells) < 2:
        return float("nan")
    return math.log(seconds[-1] / seconds[0]) / math.log(cells[-1] / cells[0])


if __name__ == "__main__":
    main()
