"""A fitted few-shot head: flat arrays and plain values, saved as safetensors and JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stplm.errors import LabelError, ModelError
from stplm.evidence import evidence
from stplm.io.staged import restore_interrupted, staged_folder
from stplm.scheme import Scheme, check_scheme
from stplm.tasks.features import Features
from stplm.tasks.outcome import Floats, outcomes, share_odds, softmax
from stplm.tasks.shares import log_prior, share_sample
from stplm.tasks.tumour_head import TumourHead
from stplm.tasks.unknown import UnknownScore
from stplm.tokens.vocabulary import gene_places

_FORMAT = 2


@dataclass
class Classifier:
    """Linear head with class shares and a temperature. Made by :func:`stplm.fit_classifier`.

    Attributes
    ----------
    classes, tumour_classes
        Class names in the order of the probabilities; those that are tumour.
    genes
        Ensembl ids of the gene coefficients.
    dense, level, bias
        float64 coefficients (n_classes, dense_width), (n_classes, n_genes), and (n_classes,), on unscaled features.
    log_prior
        float64 (n_classes,): log of the classes' shares in the section that it was fitted on.
    prior_weight
        The power to which the shares enter the prediction, 0 to 1.
    temperature
        Divides the logits of the calibrated probabilities.
    scheme, tumour_head, tumour_temperature
        How tumour call and class go together (:mod:`stplm.tasks.outcome`); the hierarchical scheme's binary head, None
        where all classes are on one side; what the joint scheme divides the log-odds of tumour by.
    unknown
        The unknown score; None in folders that were saved without one.
    info
        n_labels by class, seeded, seed, checksum of the embedding model.
    """

    classes: list[str]
    tumour_classes: list[str]
    genes: list[str]
    dense: NDArray[np.float64]
    level: NDArray[np.float64]
    bias: NDArray[np.float64]
    log_prior: NDArray[np.float64]
    prior_weight: float = 1.0
    temperature: float = 1.0
    scheme: Scheme = "joint"
    tumour_temperature: float = 1.0
    tumour_head: TumourHead | None = None
    unknown: UnknownScore | None = None
    info: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def build(
        cls,
        *,
        classes: list[str],
        tumour_classes: list[str],
        genes: list[str],
        coefficients: NDArray[np.float64],
        bias: NDArray[np.float64],
        mean: NDArray[np.float64],
        scale: NDArray[np.float64],
        dense_width: int,
        info: dict[str, Any],
    ) -> Classifier:
        """From coefficients on scaled features: the scaling is folded in."""
        dense = coefficients[:, :dense_width] / scale
        equal = np.full(len(classes), -np.log(len(classes)))
        return cls(
            classes,
            tumour_classes,
            genes,
            dense,
            np.ascontiguousarray(coefficients[:, dense_width:]),
            bias - dense @ mean,
            equal,
            info=info,
        )

    def faded(self, logits: NDArray[np.float64], depth: NDArray[np.float64]) -> NDArray[np.float64]:
        """Logits of cells with few counts, pulled towards no evidence."""
        return logits * evidence(depth)[:, None]

    def balanced_proba(self, features: Features) -> NDArray[np.float64]:
        """Posteriors (n, n_classes) as if all classes were equally common."""
        return softmax(self.faded(self._logits(features), features.depth))

    def section_shares(self, features: Features) -> NDArray[np.float64]:
        """Log of the classes' shares (n_classes,) in a section, estimated from its cells without their labels."""
        sample = share_sample(np.flatnonzero(features.depth > 0))
        return log_prior(self.balanced_proba(features.take(sample)))

    def proba(self, features: Features) -> NDArray[np.float64]:
        """Calibrated posteriors (n, n_classes) with the section's class shares."""
        return self.outputs(features)[0]

    def outputs(self, features: Features) -> tuple[Floats, Floats]:
        """Calibrated posteriors (n, n_classes) and tumour probabilities (n,), their sum over the tumour classes."""
        # A cell without counts keeps the shares themselves, whatever the weight and the temperature.
        empty = features.depth <= 0
        weight = np.where(empty, 1.0, self.prior_weight)
        logits = self.faded(self._logits(features), features.depth) + weight[:, None] * self.log_prior
        odds, tumour_temperature = None, self.tumour_temperature
        if self.tumour_head is not None:
            odds = self.tumour_head.odds(features.dense(), features.level, self._place(features))
            odds = self.faded(odds[:, None], features.depth)[:, 0] + weight * share_odds(self.log_prior, self.is_tumour)
            tumour_temperature = self.tumour_head.temperature
        return outcomes(
            logits,
            self.is_tumour,
            tumour_logit=odds,
            temperature=np.where(empty, 1.0, self.temperature),
            tumour_temperature=np.where(empty, 1.0, tumour_temperature),
            scheme=self.scheme,
        )

    @property
    def is_tumour(self) -> NDArray[np.bool_]:
        """(n_classes,) which classes are tumour."""
        return np.isin(self.classes, self.tumour_classes)

    def _logits(self, features: Features) -> NDArray[np.float64]:
        if features.dense_width != self.dense.shape[1]:
            raise ModelError(
                "The classifier does not fit these cells.",
                found=f"{features.dense_width} features a cell",
                expected=str(self.dense.shape[1]),
                mend="Embed with the model it was fitted on, or fit it again on this section.",
            )
        found = self._place(features)
        level = self.level if found is None else np.where(found >= 0, self.level[:, found], 0.0)
        logits: NDArray[np.float64] = features.dense() @ self.dense.T + np.asarray(features.level @ level.T) + self.bias
        return logits

    def _place(self, features: Features) -> NDArray[np.int64] | None:
        """Where each gene of the cells is among the classifier's, -1 where it is not; None where all are the same."""
        if list(features.genes) == self.genes:
            return None
        return gene_places(features.genes, self.genes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for provenance."""
        return {
            "classes": list(self.classes),
            "tumour_classes": list(self.tumour_classes),
            "class_shares": [round(float(p), 6) for p in np.exp(self.log_prior)],
            "share_weight": round(self.prior_weight, 6),
            "temperature": round(self.temperature, 6),
            "scheme": self.scheme,
            "tumour_temperature": round(head.temperature if (head := self.tumour_head) else self.tumour_temperature, 6),
            "n_labels": int(sum(self.info.get("n_labels", {}).values())),
            # A list in the order of the classes: names such as "T/NK" cannot be keys in an h5ad or a zarr.
            "labels_by_class": [int(self.info.get("n_labels", {}).get(name, 0)) for name in self.classes],
            "seeded": bool(self.info.get("seeded", False)),
            "seed": int(self.info.get("seed", 0)),
        }

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write ``classifier.json`` and ``classifier.safetensors`` into a folder, staged and then renamed."""
        from safetensors.numpy import save

        folder = Path(folder)
        with staged_folder(folder, overwrite=overwrite, mark="classifier.json") as stage:
            stage.mkdir()
            arrays = {n: np.ascontiguousarray(getattr(self, n)) for n in ("dense", "level", "bias", "log_prior")}
            for part in (self.tumour_head, self.unknown):
                arrays |= {} if part is None else part.to_arrays()
            (stage / "classifier.safetensors").write_bytes(save(arrays))
            content = {
                "format": _FORMAT,
                "classes": self.classes,
                "tumour_classes": self.tumour_classes,
                "genes": self.genes,
                "prior_weight": self.prior_weight,
                "temperature": self.temperature,
                "scheme": self.scheme,
                "tumour_temperature": self.tumour_temperature,
                "info": self.info,
            }
            (stage / "classifier.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Classifier:
        """Read what :meth:`save` wrote. Raises ModelError when the folder is not a whole classifier."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        folder = Path(folder)
        restore_interrupted(folder)
        try:
            content = json.loads((folder / "classifier.json").read_text(encoding="utf-8"))
            arrays = load_file(str(folder / "classifier.safetensors"))
            if content.pop("format") != _FORMAT:
                raise KeyError("format")
            own = {n: a for n, a in arrays.items() if n in ("dense", "level", "bias", "log_prior")}
            parts = {"tumour_head": TumourHead.from_arrays(arrays), "unknown": UnknownScore.from_arrays(arrays)}
            loaded = cls(**{**content, **own, **parts, "scheme": check_scheme(content.get("scheme", "joint"))})
            k, shapes = len(loaded.classes), [loaded.dense.shape, loaded.level.shape]
            if [s[0] for s in shapes] != [k, k] or shapes[1][1] != len(loaded.genes) or len(loaded.bias) != k:
                raise ValueError(f"{k} classes and {len(loaded.genes)} genes with coefficients of {shapes}")
            return loaded
        except (OSError, ValueError, KeyError, TypeError, AttributeError, LabelError, SafetensorError) as error:
            raise ModelError("This is not a classifier folder.", where=folder, found=str(error)) from error
