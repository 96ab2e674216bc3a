"""What adaptation gives on a panel that the model hardly knows: ``python benchmarks/adaptation.py [--shots 1,5,10]``.

The bundled model is made to forget all but 120 of the panel's 313 genes; then the labelled section is embedded with it
as it is, adapted, and with the whole model. Macro-F1 of the few-shot protocol, for logistic regression on the model's
vectors alone and for the default head (which also sees profiles and counts). Mean ± standard error over label draws.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from anndata import AnnData
from protocol import load_protocol
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.preprocessing import StandardScaler

import stplm
from stplm import keys
from stplm.models import Model, load_model
from stplm.nn.tissue import TissueEncoder

KNOWN = 120


def forget(model: Model, n_known: int, seed: int = 0) -> Model:
    """The model with ``n_known`` of its genes, drawn at random; every other weight as it is."""
    old = model.encoder
    keep = np.sort(np.random.default_rng(seed).choice(len(old.genes), n_known, replace=False))
    new = TissueEncoder([old.genes[i] for i in keep], old.config)
    state = {k: v[keep] if k.startswith("gene_") else v for k, v in old.state_dict().items()}
    new.load_state_dict(state)
    return Model(new.eval(), f"{model.name}, {n_known} genes", {})


def on_vectors(table: AnnData, labels: np.ndarray) -> np.ndarray:
    """Balanced logistic regression on the own part of the vectors alone."""
    width = table.uns[keys.UNS][keys.UNS_EMBEDDING]["own_dim"]
    vectors = StandardScaler().fit_transform(table.obsm[keys.X_STPLM][:, :width])
    some = np.array([v is not None for v in labels])
    head = LogisticRegression(max_iter=200, class_weight="balanced").fit(vectors[some], labels[some].astype(str))
    return head.predict(vectors)


def with_head(table: AnnData, labels: np.ndarray) -> np.ndarray:
    """The default few-shot head."""
    table = table.copy()
    return stplm.predict(table, stplm.fit_classifier(table, labels)).obs[keys.CLASS].astype(str).to_numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shots", default="1,5,10")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    shots = [int(s) for s in arguments.shots.split(",")]
    torch.set_num_threads(1)
    protocol = load_protocol()
    table, truth, left, right = protocol.load()
    whole = load_model()
    partial = forget(whole, KNOWN)
    start = time.perf_counter()
    adapted = stplm.adapt(table, partial)
    seconds = time.perf_counter() - start
    print(f"Adapted in {seconds:.0f} s on one thread; {adapted.provenance['genes_added']} genes added.\n")
    print("| labels a class | " + " | ".join(map(str, shots)) + " |\n" + "|---" * (len(shots) + 1) + "|")
    for name, model in ((f"{KNOWN} genes known", partial), ("the same, adapted", adapted), ("all genes known", whole)):
        stplm.embed(table, model, clusters=0)
        for head in (on_vectors, with_head):
            cells = []
            for k in shots:
                scores = []
                for seed in range(arguments.seeds):
                    said = head(table, protocol.draw(truth, left, k, seed))
                    scores.append(f1_score(truth[right].astype(str), said[right], average="macro"))
                cells.append(f"{np.mean(scores):.3f} ± {np.std(scores, ddof=1) / np.sqrt(len(scores)):.3f}")
            what = "vectors alone" if head is on_vectors else "default head"
            print(f"| {name}, {what} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
