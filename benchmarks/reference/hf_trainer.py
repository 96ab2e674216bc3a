"""Masked genes by Hugging Face's Trainer, as Geneformer is trained: sentences made beforehand, padded by a collator."""

from __future__ import annotations

import tempfile
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from stplm.nn.ranking import FIRST_GENE, MASK, PAD, Tokens

MASKED = 0.15
_NOT_ASKED = -100
_WARM_UP = 2
"""Steps that are not counted."""


class Sentences(Dataset[dict[str, Tensor]]):
    """Sentences of cells without their padding; of ``asked`` bool (n, L) genes the id is ``<mask>``, and a label."""

    def __init__(self, tokens: Tokens, asked: Tensor, repeats: int = 1) -> None:
        hidden, labels = corrupted(tokens, asked)
        lengths = tokens.mask.sum(1).tolist()
        self._cells = [
            {"ids": hidden.ids[i, :n], "bins": hidden.bins[i, :n], "labels": labels[i, :n]}
            for i, n in enumerate(lengths)
        ]
        self._repeats = repeats

    def __len__(self) -> int:
        return len(self._cells) * self._repeats

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return self._cells[i % len(self._cells)]


class MaskedGenes(nn.Module):
    """A gene-token encoder as the Trainer takes a model: padded tensors in, the loss out."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: Tensor, bins: Tensor, mask: Tensor, labels: Tensor) -> dict[str, Tensor]:
        words = self.encoder.words(Tokens(ids, bins, mask))
        hidden = self.encoder.body(inputs_embeds=words, attention_mask=mask.long(), return_dict=True).last_hidden_state
        return {"loss": masked_loss(self.encoder, hidden, labels)}


def corrupted(tokens: Tokens, asked: Tensor) -> tuple[Tokens, Tensor]:
    """Sentences with ``<mask>`` for genes that are asked for; which gene each is, int64 (n, L), -100 elsewhere."""
    asked = asked & tokens.genes
    labels = torch.where(asked, tokens.ids - FIRST_GENE, _NOT_ASKED)
    ids, bins = torch.where(asked, MASK, tokens.ids), torch.where(asked, 0, tokens.bins)
    return Tokens(ids, bins, tokens.mask), labels


def masked_loss(encoder: Any, hidden: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the panel at the genes that are asked for."""
    chosen = labels >= 0
    rows = torch.arange(len(encoder.genes), device=hidden.device)
    logits = encoder.gene_logits(hidden[chosen], rows)
    return nn.functional.cross_entropy(logits.float(), labels[chosen])


def train(
    encoder: Any, sentences: Sentences, batch: int, longest: int, device: torch.device, steps: int, half: bool = True
) -> tuple[float, list[float]]:
    """Seconds a step (the first two are left out), the collator's work among them, and the loss of each step.

    ``longest``: places that every sentence is padded to. AdamW at 1e-4, no decay, no clipping; ``half``: bfloat16.
    """
    from transformers import Trainer, TrainerCallback, TrainingArguments

    ends: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            ends.append(time.perf_counter())

    def padded(values: Tensor, fill: int) -> Tensor:
        return nn.functional.pad(values, (0, longest - len(values)), value=fill)

    def collate(cells: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        fills = {"ids": PAD, "bins": 0, "labels": _NOT_ASKED}
        found = {name: torch.stack([padded(cell[name], fill) for cell in cells]) for name, fill in fills.items()}
        return {**found, "mask": found["ids"] != PAD}

    with tempfile.TemporaryDirectory() as folder:
        given = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=batch,
            max_steps=steps + _WARM_UP,
            learning_rate=1e-4,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=0.0,
            bf16=half,
            use_cpu=device.type == "cpu",
            save_strategy="no",
            logging_steps=1,
            report_to=[],
            remove_unused_columns=False,
            disable_tqdm=True,
            seed=0,
        )
        trainer = Trainer(
            MaskedGenes(encoder), given, data_collator=collate, train_dataset=sentences, callbacks=[Clock()]
        )
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return float(np.diff(ends)[_WARM_UP - 1 :].mean()), losses
