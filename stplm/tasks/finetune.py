"""Fine-tuning: an encoder and its heads learn classes from labelled sections.

The heads start as the best linear heads on the frozen vectors (linear probing, then fine-tuning: Kumar et al., ICLR
2022), so training starts from what few-shot learning reaches, and the start is among the weights that may be kept.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stplm.errors import ModelError
from stplm.models import Model, load_model, versions
from stplm.progress import Progress, no_progress
from stplm.tasks.finetune_config import FinetuneConfig
from stplm.tasks.finetune_watch import REFIT, SELECT, Watch
from stplm.tasks.labels import choose_tumour_classes
from stplm.tasks.shares import share_sample

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

    from stplm.nn.encoder import Encoder
    from stplm.nn.heads import ClassHeads
    from stplm.tasks.compare import HeldOut
    from stplm.tasks.finetune_data import LabelledSection
    from stplm.tasks.finetune_loop import OnEpoch
    from stplm.tasks.processes import Processes


def finetune(
    model: str | Path | Model,
    tables: AnnData | SpatialData | str | Path | Sequence[AnnData | SpatialData | str | Path],
    labels: Any,
    config: FinetuneConfig | None = None,
    *,
    tumour_classes: Sequence[str] | None = None,
    holdout: Any = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    name: str | None = None,
    curves: str | Path | None = None,
    device: str = "auto",
    progress: Progress = no_progress,
    on_epoch: OnEpoch | None = None,
    history: str | Path | None = None,
    stop: Callable[[], bool] | None = None,
    stop_after: int | None = None,
    on_held_out: Callable[[HeldOut], object] | None = None,
) -> Model:
    """Train a copy of ``model`` on labelled cells; :func:`stplm.predict` then takes the model as its classifier.

    Parameters
    ----------
    model
        A bundled model's name, a model folder, or a loaded model. It stays as it was.
    tables
        One section or several: cell tables, sections, or paths that :func:`stplm.read_section` takes.
    labels
        The name of an obs column; or class names as :func:`stplm.fit_classifier` takes them (a list of such, one a
        table, where there are several). Cells without a label are context.
    config
        How to train (:class:`FinetuneConfig`).
    tumour_classes
        Which classes are tumour; by default those whose name says so.
    holdout
        Which cells to hold out, in place of the config's split: a bool mask, or a list of one a table.
    checkpoint
        Folder for checkpoints; with ``resume`` the training goes on from the one that is there.
    name
        Of the new model.
    curves
        Folder for TensorBoard.
    on_epoch
        Called with each epoch's number and held-out scores; may raise to stop (as a search that prunes does).
    history
        File of JSON lines to which each loss and score is added as it comes
        (:func:`stplm.tasks.finetune_watch.read_history`).
    stop
        Asked before each step; once True, training ends with the best weights so far, held-out cells stay held out, and
        the checkpoint stays for going on.
    stop_after
        Steps of the optimiser after which the search for the best epoch ends, whatever the config says: what a run that
        was stopped has on record as ``stopped_at``, to have its model again.
    on_held_out
        Called with the held-out cells and what the model that learnt from the others says of them, for
        :func:`stplm.tasks.compare.compare`; not where nothing is held out.

    Returns
    -------
    Model with ``heads``. ``provenance["finetune"]`` has the settings, how cells were held out, the scores on them
    (macro-F1, balanced accuracy, tumour F1, calibration error before and after) and those of each epoch. The same input
    and seed give the same bytes.

    Raises
    ------
    LabelError
        No label, one class only, one label of a class, an unknown tumour class, a split that leaves a class out.
    GeneError
        When the model knows none of a section's genes.
    ModelError
        The model is damaged; the checkpoint is of another run, or is there without ``resume``.
    Cancelled
        When ``progress`` raises it; the last checkpoint stays.
    """
    import torch

    from stplm.tasks.device import choose_device
    from stplm.tasks.finetune_data import hold_out, labelled_sections, read_tables
    from stplm.tasks.finetune_loop import best_epoch
    from stplm.tasks.processes import open_processes

    config, base = config or FinetuneConfig(), load_model(model)
    loaded = read_tables(tables)
    sections, classes = labelled_sections(loaded, labels, base.encoder.genes, base.encoder.config)
    del loaded
    tumour = choose_tumour_classes(classes, tumour_classes)
    split, how = hold_out(sections, classes, config, holdout)
    if config.neighbours and any(s.cells.xy is None for s in sections):
        config = replace(config, neighbours=False)
    processes = open_processes(choose_device(device))
    held_out = any(s.test.any() for s in split)
    twice = config.refit and held_out
    watch = Watch(history, stop, stop_after, 60 * config.minutes, parts=2 if twice else 1)
    run = _Run(base, classes, tumour, config, processes, progress, on_epoch, curves, watch)
    with torch.random.fork_rng():
        first = _Stage(SELECT, config.epochs, 0, 2 if twice else 1)
        encoder, heads, told = run.train(split, first, checkpoint, resume)
        stopped_at = watch.stopped_at
        shares, scores = run.finish(encoder, heads, split, on_held_out)
        best = best_epoch(told)
        twice = twice and not watch.was_asked
        if twice:
            fitted, everything = heads.config, [_all_to_learn(s) for s in split]
            again = run.train(everything, _Stage(REFIT, best, 1, 2), checkpoint, resume)
            # Stopped half way, it knows less than what it was to better.
            twice = watch.stopped_at is None
        if twice:
            encoder, heads, _ = again
            shares, _ = run.finish(encoder, heads, everything)
            heads.set(temperature=fitted.temperature, tumour_temperature=fitted.tumour_temperature)
    provenance = {
        "task": "finetune",
        "base": {"name": base.name, "sha256": base.fingerprint()},
        "data": base.provenance.get("data", []),
        "description": f"{base.name}, fine-tuned to tell {len(classes)} classes apart.",
        "limits": "Scores are of held-out cells of the sections trained on; another patient may differ."
        if held_out
        else "No cell was held out, so nothing is known of how well it does; confidence is not calibrated.",
        "finetune": {
            "config": config.to_dict(),
            "classes": classes,
            "tumour_classes": tumour,
            "labels": {c: int(sum((s.codes == i).sum() for s in sections)) for i, c in enumerate(classes)},
            "labels_learnt_from": int(sum((s.codes >= 0 if twice else s.train).sum() for s in split)),
            "class_shares": [round(float(p), 6) for p in shares],
            "sections": len(sections),
            "holdout": how,
            "held_out_cells": int(sum(s.test.sum() for s in split)),
            "early_stopping": held_out,
            "best_epoch": best,
            "stopped_at": stopped_at,
            "history": told,
            "scores": scores,
            "refit": twice,
            "lora_targets": run.adapted,
        },
        "versions": versions(),
    }
    return Model(encoder, name or f"{base.name}+finetuned", provenance, preset=base.preset, heads=heads)


class _Stage(NamedTuple):
    """One training of a run: its checkpoint's name, most epochs, and which of how many it is."""

    name: str
    epochs: int
    part: int
    parts: int


@dataclass
class _Run:
    """What all stages of one fine-tuning share."""

    base: Model
    classes: list[str]
    tumour: list[str]
    config: FinetuneConfig
    processes: Processes
    progress: Progress
    on_epoch: OnEpoch | None
    curves: str | Path | None
    watch: Watch
    adapted: list[str] = field(default_factory=list)

    def train(
        self, sections: list[LabelledSection], stage: _Stage, checkpoint: str | Path | None, resume: bool
    ) -> tuple[Encoder, ClassHeads, list[dict[str, float]]]:
        """A trained copy of the base encoder, its heads, and the scores of each epoch."""
        import torch

        from stplm.nn.lora import add_lora, merge_lora
        from stplm.tasks.checkpoints import Checkpoints
        from stplm.tasks.curves import Curves
        from stplm.tasks.finetune_heads import label_weights, new_heads
        from stplm.tasks.finetune_loop import train
        from stplm.tasks.finetune_patches import Forward

        config, device = self.config, self.processes.device
        torch.manual_seed(config.seed)
        encoder = copy.deepcopy(self.base.encoder)
        weights = label_weights(sections, len(self.classes), config)
        heads, vectors = new_heads(encoder, sections, self.classes, self.tumour, weights, config, device)
        encoder.requires_grad_(config.method == "full")
        if config.method == "lora":
            self.adapted = add_lora(
                encoder, rank=config.lora_rank, alpha=config.lora_alpha, dropout=config.lora_dropout
            )
        freeze_layers(encoder, config.frozen_layers)
        encoder.to(device)
        frozen = [torch.from_numpy(v).to(device) for v in vectors] if config.method == "head" else None
        checkpoints = None
        if checkpoint is not None:
            about = {"base": self.base.fingerprint(), "labels": _digest(sections, self.classes, self.tumour)}
            Path(checkpoint).mkdir(parents=True, exist_ok=True)
            checkpoints = Checkpoints(
                Path(checkpoint) / stage.name, config.checkpoint_every, resume=resume, about=about
            )
        self.watch.enter(stage.name)
        told = train(
            Forward(encoder, heads.to(device), sections, device, frozen),
            torch.as_tensor(weights, dtype=torch.float32, device=device),
            config,
            epochs=stage.epochs,
            checkpoints=checkpoints,
            curves=Curves(self.curves if self.processes.index == 0 and stage.part == 0 else None),
            processes=self.processes,
            progress=lambda done, total: self.progress(done + stage.part * total, stage.parts * total),
            on_epoch=self.on_epoch if stage.part == 0 else None,
            watch=self.watch,
        )
        if config.method == "lora":
            merge_lora(encoder)
        encoder.requires_grad_(True)
        return encoder.eval(), heads.eval(), told

    def finish(
        self,
        encoder: Encoder,
        heads: ClassHeads,
        sections: list[LabelledSection],
        on_held_out: Callable[[HeldOut], object] | None = None,
    ) -> tuple[NDArray[np.float64], dict[str, float]]:
        """Put shares and temperatures into the heads, all on the CPU: the classes' shares (k,) in these sections, and
        the scores of held-out cells, called as :func:`stplm.predict` calls them; none without such cells."""
        from stplm.tasks.apply import section_log_proba
        from stplm.tasks.compare import held_out_cells, held_out_squares
        from stplm.tasks.finetune_heads import label_weights, trained_shares
        from stplm.tasks.finetune_scores import calibrate, class_scores, cross_fitted, log_shares, outputs

        logs = [
            section_log_proba(encoder, heads, s.cells, s.counts, s.genes, device=self.processes.device)
            for s in sections
        ]
        seen = np.concatenate([log[np.diff(s.counts.indptr) > 0] for log, s in zip(logs, sections, strict=True)])
        prior = trained_shares(sections, label_weights(sections, len(self.classes), self.config))
        log_share = log_shares(share_sample(seen), prior)
        heads.set(log_shift=tuple(map(float, log_share - np.log(prior))))
        held = np.concatenate([log[s.test] for log, s in zip(logs, sections, strict=True)])
        codes = np.concatenate([s.codes[s.test] for s in sections])
        shares = np.exp(log_share)
        if on_held_out is not None and len(codes):
            squares = held_out_squares(sections, self.config.block)
            outcome = cross_fitted(heads, held, codes, shares, squares)
            on_held_out(held_out_cells(sections, self.classes, self.tumour, codes, *outcome, squares))
        errors = calibrate(heads, held, codes, shares)
        if not len(codes):
            return shares, {}
        proba, tumour = outputs(heads, held)
        scores = class_scores(codes, proba.argmax(1), tumour, heads.is_tumour.numpy())
        return shares, {**scores, **errors}


def freeze_layers(encoder: Encoder, number: int) -> None:
    """Leave the first layers, and with them the genes' embeddings, out of training. Raises ModelError for too many."""
    layers = encoder.layers()
    if number > len(layers):
        raise ModelError(
            "The model has fewer layers than are to be frozen.",
            found=str(number),
            expected=f"at most {len(layers)}",
            mend="Freeze fewer layers, or train the heads alone.",
        )
    for layer in layers[:number]:
        layer.requires_grad_(False)
    if number:
        for name in encoder.gene_parameters:
            parameter = getattr(encoder, name)
            parameter.requires_grad_(False)


def _all_to_learn(section: LabelledSection) -> LabelledSection:
    return replace(section, train=section.codes >= 0, test=np.zeros_like(section.test))


def _digest(sections: list[LabelledSection], classes: list[str], tumour: list[str]) -> str:
    """Tells one set of cells, labels and held-out cells from another."""
    from stplm.tasks.checkpoints import fingerprint

    digest = hashlib.sha256("\n".join([*classes, "", *tumour]).encode())
    for section in sections:
        digest.update(fingerprint(section.cells).encode())
        for array in (section.codes, section.train, section.test):
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
