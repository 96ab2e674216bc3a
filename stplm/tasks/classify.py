"""Few-shot cell typing: learn from a handful of labels in well under a second, predict every cell.

A linear head on frozen features, the mean of three (:mod:`stplm.tasks.design`), fitted on the labels and then again
together with the section's unlabelled cells as it calls them (:mod:`stplm.tasks.unlabelled`); then two corrections that
few-shot labels need:

- *Label shift.* A user clicks a few cells of each class, whatever the classes' shares in the tissue. The shares are
  estimated from the section's unlabelled cells by expectation maximisation (Saerens et al., 2002) and put into the
  prediction, in place of the shares of the labels. Logits of a regularised head trained on few labels are too flat for
  that, so they are sharpened first.
- *Calibration.* With five labels a class or more, a temperature is fitted on held-out labels (Guo et al., 2017), each
  weighted by its class's share in the tissue. The heads that hold labels out learn from labels only: a cell that was
  called with the help of a label knows something of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stplm import keys
from stplm.errors import ModelError
from stplm.evidence import evidence
from stplm.io.groups import as_table
from stplm.scheme import Scheme, check_scheme
from stplm.tasks import unlabelled
from stplm.tasks.classifier import Classifier
from stplm.tasks.classifier_temperature import held_out_temperature
from stplm.tasks.features import Features, cell_features
from stplm.tasks.head import PENALTY_FEW, fit_linear, held_out_penalty, sharpness, typical_labels
from stplm.tasks.labels import check_two_classes, choose_tumour_classes, enough_labels, labelled_cells
from stplm.tasks.outcome import share_odds
from stplm.tasks.prediction import write_prediction
from stplm.tasks.self_training import fit_joining
from stplm.tasks.shares import Shares
from stplm.tasks.tumour_head import fit_tumour_head
from stplm.tasks.unknown import unknown_score

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from spatialdata import SpatialData

    from stplm.models import Model

_SEEDED_TEMPERATURE = 2.0
"""Seeds are a class's clearest cells, so held-out seeds would promise far too much. Set on two labelled sections."""


def fit_classifier(
    table: AnnData | SpatialData,
    labels: pd.Series | Mapping[str, object] | str | Sequence[object],
    *,
    tumour_classes: Sequence[str] | None = None,
    seeded: bool = False,
    scheme: Scheme = "joint",
    seed: int = 0,
    features: Features | None = None,
) -> Classifier:
    """Learn classes from a few labelled cells.

    Parameters
    ----------
    table
        An embedded section or cell table (:func:`stplm.embed`). Its unlabelled cells are used too: to fit the head
        again, and for the classes' shares.
    labels
        Class names by cell id, a Series or a dict (NaN or None = unlabelled; cells may be left out), the name of an obs
        column, or one value a cell. Of more than 10,000 labels the commonest classes are thinned
        (:func:`stplm.tasks.labels.enough_labels`).
    tumour_classes
        Which classes are tumour; by default those whose name says so (:func:`stplm.palette.is_tumour_name`).
    seeded
        The labels come from reference profiles (:func:`stplm.seed_labels`), not from a person: put on record, and
        confidence is held lower.
    scheme
        "joint": the tumour probability is the sum over the tumour classes. "hierarchical": a binary head decides on
        tumour first, and the classes share what it gives to either side (:mod:`stplm.tasks.outcome`). Joint is better
        where there are labels of all classes (measured; see docs/benchmarks.md).
    seed
        Of the unlabelled cells that are drawn and the folds that calibration holds out.
    features
        Those of ``table`` from a :class:`stplm.tasks.features.FeatureCache`, where it is fitted again and again; the
        result is the same. By default they are made here.

    Returns
    -------
    Classifier. The same input and seed give the same bytes.

    Raises
    ------
    LabelError
        No label, one class only, a label for a cell that is not in the section, an unknown tumour class.
    ModelError
        When the table is not embedded, or the features are of another one.
    """
    scheme = check_scheme(scheme)
    table = as_table(table)
    labelled, names = labelled_cells(table, labels)
    tumour = tumour_among(names, tumour_classes)
    return fit_features(
        _features_of(table, features),
        labelled,
        names,
        tumour,
        seeded=seeded,
        scheme=scheme,
        seed=seed,
        embedding=_embedding_checksum(table),
    )


def fit_features(
    features: Features,
    labelled: NDArray[np.int64],
    names: NDArray[np.str_],
    tumour: list[str],
    *,
    seeded: bool = False,
    scheme: Scheme = "joint",
    seed: int = 0,
    embedding: str = "",
) -> Classifier:
    """:func:`fit_classifier` from a section's features, the rows of its labelled cells (ascending), their classes, and
    which of them are tumour (:func:`tumour_among`). ``embedding``: checksum of the model that made the vectors."""
    found, codes = np.unique(names, return_inverse=True)
    classes = found.tolist()
    counts = np.bincount(codes, minlength=len(classes))
    kept = enough_labels(codes, seed)
    labelled, codes = labelled[kept], codes[kept]
    plan, known = features.design(seed), features.take(labelled)
    design, heads = plan.rows(known), plan.heads()
    typical = typical_labels(counts)
    sharp = sharpness(typical)

    def made(coefficients: NDArray[np.float64], bias: NDArray[np.float64]) -> Classifier:
        head = Classifier.build(
            classes=classes,
            tumour_classes=tumour,
            genes=list(map(str, features.genes)),
            linear=plan.unfold(coefficients, bias),
            info={
                "n_labels": {c: int(n) for c, n in zip(classes, counts, strict=True)},
                "seeded": seeded,
                "seed": int(seed),
                "embedding": embedding,
            },
        )
        head.log_prior = head.section_shares(features)
        return head

    # Seeds are clear-cut cells, and their temperature already flattens what they say.
    depth, k = known.depth, len(classes)
    penalty = PENALTY_FEW if seeded else held_out_penalty(design, codes, k, evidence(depth), seed=seed)
    sample = features.sample
    linear, joined = fit_joining(
        design,
        codes,
        k,
        call=lambda linear: made(*linear).proba(sample),
        rows=lambda cells: plan.rows(sample.take(cells)),
        candidates=~np.isin(features.sample_cells, labelled),
        rounds=0 if seeded else unlabelled.rounds(len(codes), k),
        heads=heads,
        sharp=sharp,
        penalty=penalty,
        seed=seed,
    )
    classifier = made(*linear)
    if joined:
        classifier.info["joined"] = joined
    classifier.scheme = scheme
    if scheme == "hierarchical":
        classifier.tumour_head = fit_tumour_head(
            design,
            classifier.is_tumour[codes],
            partial(fit_linear, heads=heads),
            plan.unfold,
            sharpness=sharp,
            fade=evidence(depth),
            share_odds=share_odds(classifier.log_prior, classifier.is_tumour),
            weight=(np.exp(classifier.log_prior) / np.bincount(codes))[codes],
            calibrate=not seeded and counts.min() >= 5,
            seed=seed,
        )
    if seeded:
        classifier.temperature = _SEEDED_TEMPERATURE
    else:
        # One head, as a click waits for these fits too.
        classifier.temperature = held_out_temperature(
            classifier, design, codes, depth, sharp, penalty=penalty, heads=heads[:1], seed=seed
        )
    classifier.unknown = unknown_score(
        features.kinds(seed), known.dense(), known.counts, codes, class_shares=np.exp(classifier.log_prior), seed=seed
    )
    return classifier


def tumour_among(names: NDArray[np.str_], given: Sequence[str] | None) -> list[str]:
    """The tumour classes among those of the labels: the ``given`` ones, or by name. Raises LabelError, also where the
    labels are of fewer than two classes."""
    classes = np.unique(names).tolist()
    check_two_classes(classes, len(names))
    return choose_tumour_classes(classes, given)


def predict(
    table: AnnData | SpatialData,
    classifier: Classifier | Model | str | Path,
    *,
    shares: Shares = "fitted",
    features: Features | None = None,
    unknown: bool = True,
) -> AnnData:
    """Class, calibrated confidence and tumour probability of every cell, written into the cell table.

    Writes ``obs["stplm_class"]`` (categorical) and ``obs["stplm_tumour"]`` (float32), both missing for cells
    without counts, ``obs["stplm_confidence"]`` (float32; 0 for those), ``obs["stplm_unknown"]`` (float32),
    ``obsm["stplm_proba"]`` (n_cells, n_classes) float32 and ``uns["stplm"]["prediction"]``. A cell's result depends on
    that cell and the classifier only. Returns the cell table.

    Parameters
    ----------
    table
        An embedded section or cell table.
    classifier
        A few-shot classifier; or a fine-tuned model or its folder (:func:`stplm.finetune`), for which the table need
        not be embedded.
    shares
        "section" estimates the classes' shares anew from these cells, for another section than the one learnt from,
        where classes may be rarer or commoner (label shift: Saerens et al., 2002).
    features
        As for :func:`fit_classifier`.
    unknown
        False leaves the unknown score out (and takes an older one away), which costs as much as all the rest; add it
        later with :func:`score_unknown`.

    Raises
    ------
    ModelError
        When the table is not embedded, or with another model than the classifier was fitted on.
    """
    if not isinstance(classifier, Classifier):
        from stplm.tasks.apply import apply_heads

        return apply_heads(table, classifier, shares=shares)
    table = as_table(table)
    if (fitted := classifier.info.get("embedding")) and fitted != _embedding_checksum(table):
        raise ModelError(
            "The cells were embedded with another model than the classifier was fitted on.",
            found=str(_embedding_checksum(table))[:12],
            expected=str(fitted)[:12],
            mend="Embed with that model, or fit the classifier again.",
        )
    features = _features_of(table, features)
    if shares == "section":
        classifier = replace(classifier, log_prior=classifier.section_shares(features))
    proba, tumour = classifier.outputs(features)
    score = classifier.unknown_scores(features) if unknown else None
    model = table.uns.get(keys.UNS, {}).get(keys.UNS_EMBEDDING, {}).get("model", "unknown")
    note = {"model": model, **classifier.to_dict()}
    write_prediction(table, classifier.classes, proba, tumour, features.depth == 0, note, unknown=score)
    return table


def score_unknown(table: AnnData, classifier: Classifier, *, features: Features | None = None) -> AnnData:
    """Add ``obs["stplm_unknown"]`` to a table that :func:`predict` left it out of; nothing where the classifier has no
    such score. Raises ModelError when the table is not embedded."""
    score = classifier.unknown_scores(_features_of(table, features))
    if score is not None:
        table.obs[keys.UNKNOWN] = score
    return table


def _features_of(table: AnnData, given: Features | None) -> Features:
    if given is not None and not given.are_of(table):
        raise ModelError(
            "These features are of another section or embedding.", mend="Take them from the cache again (FeatureCache)."
        )
    return cell_features(table) if given is None else given


def _embedding_checksum(table: AnnData) -> str:
    return str(table.uns.get(keys.UNS, {}).get(keys.UNS_EMBEDDING, {}).get("sha256", ""))
