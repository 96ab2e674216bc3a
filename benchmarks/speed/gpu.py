"""What one GPU does: gene tokens, cell tokens, a step of pretraining. Without one, rows say so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import stplm
from benchmarks.reference import hf_trainer
from benchmarks.rows import Row, seconds
from benchmarks.sections import Sections
from stplm.models import build_encoder
from stplm.nn.rank import SIZES
from stplm.nn.ranking import Tokens
from stplm.tasks.encode import encode
from stplm.tasks.sources import Source

NONE = "Not measured: no GPU."
TOKENS, BAR_TOKENS, BAR_CELLS, BAR_STEP = 75, 150_000, 2_000_000, 5
NAMES = (
    "gene-token embedding, one GPU, 75 tokens a cell",
    "cell-token embedding, one GPU, counts in memory",
    "pretraining step of the gene-token encoder, one GPU",
)


def measure(sections: Sections, sizes: tuple[int, ...], device: str = "cuda", small: bool = False) -> list[Row]:
    """Three rows; ``small`` and another ``device`` let the same code be tested."""
    cells = max(sizes)
    if device == "cuda" and not torch.cuda.is_available():
        units, bars = ("cells/s", "cells/s", "cells/s"), _bars()
        return [
            Row(name, cells, None, None, unit, bar=bar, note=NONE)
            for name, unit, bar in zip(NAMES, units, bars, strict=True)
        ]
    where = torch.device(device)
    rows = [gene_tokens(cells, where, small), cell_tokens(sections, cells, where), pretraining(cells, where, small)]
    for row, bar in zip(rows, _bars(), strict=True):
        row.bar = bar
    rows[0].met, rows[1].met = (
        bool((row.ours or 0) >= bar) for row, bar in zip(rows, (BAR_TOKENS, BAR_CELLS), strict=False)
    )
    rows[2].met = bool((rows[2].ratio or 0) >= BAR_STEP)
    return rows


def gene_tokens(cells: int, device: torch.device, small: bool) -> Row:
    """Own vectors of cells with 75 tokens each, sentences made on the device, in bfloat16."""
    encoder = _encoder(small, device)
    batch = 64 if small else 4096
    counts = _counts(batch, len(encoder.genes), device)
    rows = torch.arange(len(encoder.genes), device=device)

    def forward() -> None:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
            encoder.encode_own(counts, rows)

    took = timed(forward, device)
    c = encoder.config
    layer = 4 * c.hidden**2 + 2 * c.hidden * c.feed_forward + 2 * TOKENS * c.hidden
    flops = 2 * c.layers * layer * TOKENS
    ceiling = product_rate(device, 256 if small else 8192)
    rate = batch / took
    note = (
        f"bfloat16, {rate * flops / 1e12:.1f} TFLOP/s, {rate * flops / ceiling:.0%} of the {ceiling / 1e12:.1f} that a "
        f"large product reaches here; {c.layers} layers, {c.hidden} wide; {batch:,} cells a batch, sentences made "
        "on the device."
    )
    return Row(NAMES[0], cells, rate, None, "cells/s", note=note)


def cell_tokens(sections: Sections, cells: int, device: torch.device) -> Row:
    """The default model, neighbourhood and all, from counts in memory to vectors in memory."""
    table, model = sections.table(cells), stplm.load_model()
    source = Source.of_table(table, model.encoder.genes)
    encode(model.encoder, source, device=device)
    took, _ = seconds(lambda: encode(model.encoder, source, device=device), repeats=2)
    note = "Neighbour graph, and the way of counts and vectors to and from the GPU, included."
    return Row(NAMES[1], cells, cells / took, None, "cells/s", note=note)


def pretraining(cells: int, device: torch.device, small: bool) -> Row:
    """Masked genes: our sentences of like lengths together, against Hugging Face's Trainer on padded ones."""
    batch, longest, steps = (16, 128, 2) if small else (256, _encoder(small, device).config.max_length, 20)
    counts = _counts(batch, len(_encoder(small, device).genes), device)
    asked = torch.from_numpy(np.random.default_rng(0).random((batch, longest)) < hf_trainer.MASKED).to(device)
    ours, _ = plain_steps(_encoder(small, device), counts, asked, steps)
    theirs, _ = trainer_steps(_encoder(small, device), counts, asked, steps, longest)
    note = (
        f"{batch} cells a step, bfloat16, AdamW, sentences made on the device. Reference: transformers.Trainer on the "
        f"same model, loss and optimiser; sentences made beforehand, padded by its collator to the model's {longest:,} "
        "places."
    )
    return Row(NAMES[2], cells, batch / ours, batch / theirs, "cells/s", note=note)


def plain_steps(
    encoder: Any, counts: torch.Tensor, asked: torch.Tensor, steps: int, half: bool = True
) -> tuple[float, list[float]]:
    """Seconds of a step of ours, the first left out, and the loss of each: sentences are made anew each time."""
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=1e-4, weight_decay=0.0)
    rows = torch.arange(len(encoder.genes), device=counts.device)
    losses: list[float] = []

    def step() -> None:
        with torch.autocast(counts.device.type, torch.bfloat16, enabled=half):
            tokens = encoder.tokenise(counts, rows)
            hidden, labels = hf_trainer.corrupted(tokens, asked[:, : tokens.ids.shape[1]])
            loss = hf_trainer.masked_loss(encoder, encoder.encode_tokens(hidden), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))

    return timed(step, counts.device, steps), losses


def trainer_steps(
    encoder: Any, counts: torch.Tensor, asked: torch.Tensor, steps: int, longest: int, half: bool = True
) -> tuple[float, list[float]]:
    """The same of Hugging Face's Trainer."""
    rows = torch.arange(len(encoder.genes), device=counts.device)
    tokens = encoder.tokenise(counts, rows)
    tokens = Tokens(tokens.ids.cpu(), tokens.bins.cpu(), tokens.mask.cpu())
    sentences = hf_trainer.Sentences(tokens, asked[:, : tokens.ids.shape[1]].cpu())
    return hf_trainer.train(encoder, sentences, len(counts), longest, counts.device, steps, half)


def timed(work: Callable[[], Any], device: torch.device, repeats: int = 3) -> float:
    """Seconds of one call, the device's queue emptied before and after; the first call is not counted."""

    def once() -> None:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    once()
    return seconds(once, repeats)[0]


def product_rate(device: torch.device, size: int) -> float:
    """FLOP/s of a bfloat16 product of two square matrices."""
    a = torch.randn(size, size, device=device).bfloat16()
    return 2 * size**3 / timed(lambda: a @ a, device, 5)


def _encoder(small: bool, device: torch.device) -> Any:
    genes = stplm.load_model().encoder.genes
    torch.manual_seed(0)
    sizes = {"layers": 1, "hidden": 32, "feed_forward": 32} if small else dict(SIZES["small"])
    return build_encoder("rank", genes, sizes).to(device)


def _counts(cells: int, genes: int, device: torch.device) -> torch.Tensor:
    """Counts of cells with a gene less than ``TOKENS`` detected, the other token is ``<cls>``."""
    random, counts = np.random.default_rng(0), np.zeros((cells, genes), dtype=np.float32)
    for row in counts:
        row[random.choice(genes, TOKENS - 1, replace=False)] = random.integers(1, 9, TOKENS - 1)
    return torch.from_numpy(counts).to(device)


def _bars() -> tuple[str, str, str]:
    return f"≥ {BAR_TOKENS:,} cells/s", f"≥ {BAR_CELLS:,} cells/s", f"≥ {BAR_STEP} ×"
