"""A fitted few-shot head: flat arrays and plain values, saved as safetensors and JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stplm.errors import LabelError, ModelError
from stplm.evidence import FADE_COUNTS, evidence
from stplm.io.staged import restore_interrupted, staged_folder
from stplm.kernels import in_blocks, one_thread
from stplm.progress import Progress, no_progress
from stplm.scheme import Scheme, check_scheme
from stplm.tasks.classifier_scores import block_scores, linear_scores, score_outcomes
from stplm.tasks.features import Features
from stplm.tasks.outcome import share_odds, softmax
from stplm.tasks.shares import log_prior
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
        The power to which the shares enter the prediction, 0 to 1; 1 in what is fitted here.
    temperature
        Divides the logits of the calibrated probabilities.
    scheme, tumour_head, tumour_temperature
        How tumour call and class go together (:mod:`stplm.tasks.outcome`); the hierarchical scheme's binary head, None
        where all classes are on one side; what the joint scheme divides the log-odds of tumour by.
    unknown
        The unknown score; None in folders that were saved without one.
    info
        n_labels by class; joined: how many unlabelled cells joined them (:mod:`stplm.tasks.unlabelled`); seeded, seed,
        checksum of the embedding model.
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
        linear: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
        info: dict[str, Any],
    ) -> Classifier:
        """From ``dense``, ``level`` and ``bias``; classes are taken to be equally common."""
        equal = np.full(len(classes), -np.log(len(classes)))
        return cls(classes, tumour_classes, genes, *linear, equal, info=info)

    def faded(self, logits: NDArray[np.float64], depth: NDArray[np.float64]) -> NDArray[np.float64]:
        """Logits of cells with few counts, pulled towards no evidence."""
        return logits * evidence(depth)[:, None]

    def balanced_proba(self, features: Features) -> NDArray[np.float64]:
        """Posteriors (n, n_classes) as if all classes were equally common."""
        scores = self._scores(features)[:, : len(self.classes)].astype(np.float64)
        return softmax(self.faded(scores, features.depth))

    def section_shares(self, features: Features) -> NDArray[np.float64]:
        """Log of the classes' shares (n_classes,) in a section, estimated from its cells without their labels."""
        return log_prior(self.balanced_proba(features.sample))

    def logits(self, features: Features) -> NDArray[np.float64]:
        """(n, n_classes) faded and calibrated, the section's class shares included: posteriors of classes are to each
        other as these say (among the tumour classes, and among the others; the tumour call has a temperature of its
        own)."""
        scores = self._scores(features)[:, : len(self.classes)].astype(np.float64)
        found = (self.faded(scores, features.depth) + self.prior_weight * self.log_prior) / self.temperature
        found[features.depth <= 0] = self.log_prior
        return found

    def proba(self, features: Features) -> NDArray[np.float32]:
        """Calibrated posteriors (n, n_classes) with the section's class shares."""
        return self.outputs(features)[0]

    def outputs(self, features: Features) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Calibrated posteriors (n, n_classes) and tumour probabilities (n,), their sum over the tumour classes.

        A cell without counts gets the shares themselves, whatever the weight and the temperature.
        """
        head = self.tumour_head
        return score_outcomes(
            block_scores(*self._linear(features)),
            features.depth,
            self.is_tumour,
            fade_counts=FADE_COUNTS,
            log_prior=self.log_prior,
            prior_weight=self.prior_weight,
            temperature=self.temperature,
            tumour_temperature=self.tumour_temperature if head is None else head.temperature,
            share_odds=share_odds(self.log_prior, self.is_tumour),
            scheme=self.scheme,
        )

    def unknown_scores(self, features: Features, progress: Progress = no_progress) -> NDArray[np.float32] | None:
        """(n,) how unlike every labelled class each cell is; None where the classifier has no such score.

        ``progress`` is called from several threads.
        """
        score = self.unknown
        if score is None:
            return None
        scores = np.empty(len(features), dtype=np.float32)

        def measure(start: int, stop: int) -> None:
            progress(start, len(scores))
            scores[start:stop] = score.score(features.dense(slice(start, stop)), features.depth[start:stop])

        with one_thread():
            in_blocks(measure, len(scores), 4096)
        return scores

    @property
    def is_tumour(self) -> NDArray[np.bool_]:
        """(n_classes,) which classes are tumour."""
        return np.isin(self.classes, self.tumour_classes)

    def _scores(self, features: Features) -> NDArray[np.float32]:
        """(n, n_classes) logits at equal shares, before fading; one column more where there is a binary head."""
        return linear_scores(*self._linear(features))

    def _linear(self, features: Features) -> tuple[Any, ...]:
        """What the scores are made of, see :func:`stplm.tasks.classifier_scores.linear_scores`."""
        if features.dense_width != self.dense.shape[1]:
            raise ModelError(
                "The classifier does not fit these cells.",
                found=f"{features.dense_width} features a cell",
                expected=str(self.dense.shape[1]),
                mend="Embed with the model it was fitted on, or fit it again on this section.",
            )
        dense, level, bias = self.dense, self.level, self.bias
        if (head := self.tumour_head) is not None:
            dense, level = np.vstack([dense, head.dense]), np.vstack([level, head.level])
            bias = np.append(bias, head.bias)
        if (found := self._place(features)) is not None:
            level = np.where(found >= 0, level[:, found], 0.0)
        return features.own, features.fit, features.level, dense, level, bias

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
            "joined": int(self.info.get("joined", 0)),
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
