"""The plan of docs/scaling.md: hours and cost of large jobs, from unit costs that are measured or estimated.

    python -m benchmarks.scaling --measure      # unit costs on this machine (one thread, processor time), then the plan
    python -m benchmarks.scaling                # the plan anew, from the costs on record

Costs on record are in ``benchmarks/scaling.json``: what was measured, on which machine. Prices and machines are the
fields of :class:`Prices`. What concerns a GPU is an estimate from floating-point operations and bytes
(:class:`Accelerator`), and is marked so.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.scaling_costs import measure
from benchmarks.sections import FOLDER, Sections
from benchmarks.tables import replace_block

ROOT = Path(__file__).resolve().parents[1]
RECORD, PAGE = ROOT / "benchmarks" / "scaling.json", ROOT / "docs" / "scaling.md"
SECTIONS, CELLS = 1_000, 500_000
CORPUS, EPOCHS, TOKENS = 8_000_000, 3, 75
"""Cells of the paper's pretraining; passes over them (Geneformer's number); tokens of a cell of 377 genes."""
NETWORK = 1.0
"""GB/s of the file system that all workers share."""


@dataclass(frozen=True)
class Prices:
    """US dollars an hour, to be replaced by one's own: a core with its memory, a GPU with its share of a machine."""

    core: float = 0.05
    gpu: float = 4.00


@dataclass(frozen=True)
class Accelerator:
    """An H200 by its data sheet, and the share of either figure that is taken as within reach (not measured)."""

    flops: float = 989e12
    bytes_per_s: float = 4.8e12
    flops_share: float = 0.7
    bytes_share: float = 0.8

    def seconds(self, flops: float, traffic: float) -> float:
        """Roofline time of products and of memory traffic one after the other: nothing overlaps."""
        return flops / (self.flops * self.flops_share) + traffic / (self.bytes_per_s * self.bytes_share)


@dataclass(frozen=True)
class Sizes:
    """A gene-token encoder's sizes, as :data:`stplm.nn.rank.SIZES` has them, and the genes of the panel."""

    layers: int
    hidden: int
    feed_forward: int
    genes: int = 377

    def flops(self, tokens: int = TOKENS) -> float:
        """Floating-point operations of a cell forward: projections, feed-forward, attention."""
        h, f = self.hidden, self.feed_forward
        return self.layers * tokens * (8 * h * h + 4 * h * f + 4 * tokens * h)

    def head_flops(self, tokens: int = TOKENS, masked: float = 0.15) -> float:
        """What the heads of pretraining add: masked genes over the panel, counts from both vectors."""
        h = self.hidden
        return masked * tokens * (2 * h * h + 2 * h * self.genes) + 4 * h * self.genes

    def traffic(self, tokens: int = TOKENS) -> float:
        """Bytes of activations of a cell forward in bfloat16: each operator reads its input and writes its output.

        In units of ``hidden``: QKV 1 + 3, fused attention 3 + 1, output 1 + 1, sum and norm 2 + 1; feed-forward 1 + f,
        GELU f + f, f + 1, sum and norm 2 + 1.
        """
        wide = self.feed_forward / self.hidden
        return self.layers * tokens * self.hidden * 2 * (18 + 4 * wide)


SMALL, LARGE = Sizes(6, 256, 512), Sizes(12, 512, 1024)
TRAINED = 3
"""A training step is about three forward passes, in operations as in bytes."""


def cells_per_second(sizes: Sizes, gpu: Accelerator, *, training: bool = False) -> float:
    """Roofline of one GPU."""
    flops, traffic = sizes.flops(), sizes.traffic()
    if training:
        flops, traffic = TRAINED * (flops + sizes.head_flops()), TRAINED * traffic
    return 1 / gpu.seconds(flops, traffic)


def plan(costs: dict[str, Any], prices: Prices | None = None, gpu: Accelerator | None = None) -> str:
    """Tables of the page, Markdown."""
    prices, gpu = prices or Prices(), gpu or Accelerator()
    parts = [_unit_costs(costs), _cohort(costs, prices, gpu), _corpus(costs, prices, gpu), _bounds(costs, gpu)]
    return "\n\n".join(parts)


def _unit_costs(costs: dict[str, Any]) -> str:
    lines = [
        f"Measured on {costs['cells']:,} simulated cells of {costs['genes']} genes, {costs['tokens a cell']:g} tokens "
        f"a cell, one thread, processor time. {costs['machine']}.",
        "",
        "| stage | cells a second and core | core hours for 500 M cells |",
        "|---|---|---|",
    ]
    for name, took in costs["seconds a cell"].items():
        lines.append(f"| {name} | {1 / took:,.0f} | {took * SECTIONS * CELLS / 3600:,.1f} |")
    lines += ["", "| file | bytes a cell | for 500 M cells |", "|---|---|---|"]
    for name, size in costs["bytes a cell"].items():
        lines.append(f"| {name} | {size:,.0f} | {size * SECTIONS * CELLS / 1e9:,.0f} GB |")
    return "\n".join(lines)


def _cohort(costs: dict[str, Any], prices: Prices, gpu: Accelerator) -> str:
    """1,000 sections: what each way takes."""
    n, of = SECTIONS * CELLS, costs["seconds a cell"]
    around = (of["read and lay out"] + of["put together and write"]) * n / 3600
    default = (of["own vectors"] + of["in the tissue"]) * n / 3600
    tokens_cpu = of["gene tokens on a CPU"] * n / 3600
    lines = [
        f"Prices: ${prices.core:g} a core and hour, ${prices.gpu:g} an H200 and hour.",
        "",
        "| embedding 500 M cells | core hours | GPU hours | on 64 cores and 8 GPUs | cost | |",
        "|---|---|---|---|---|---|",
    ]
    ways = [
        ("default model, CPU", around + default, 0.0, "from what was measured"),
        ("gene tokens (small), CPU", around + tokens_cpu, 0.0, "from what was measured"),
    ]
    for name, sizes in (("small", SMALL), ("large", LARGE)):
        hours = n / cells_per_second(sizes, gpu) / 3600
        ways.append((f"gene tokens ({name}), H200", around, hours, "GPU: roofline estimate, not measured"))
    for name, core, card, source in ways:
        wall = max(core / 64, card / 8)
        cost = core * prices.core + card * prices.gpu
        lines.append(f"| {name} | {_hours(core)} | {_hours(card)} | {_hours(wall)} h | ${cost:,.0f} | {source} |")
    return "\n".join(lines)


def _corpus(costs: dict[str, Any], prices: Prices, gpu: Accelerator) -> str:
    """The paper's pretraining."""
    passes = CORPUS * EPOCHS
    drawing = costs["seconds a cell"]["draw for pretraining"]
    lines = [
        f"Pretraining on {CORPUS / 1e6:g} M cells, {EPOCHS} epochs, {TOKENS} tokens a cell "
        f"({passes * TOKENS / 1e9:,.1f} G tokens).",
        "",
        "| preset | operations a cell, forward | training in all | roofline, one H200 | eight H200 | cost | cores that "
        "must draw for each H200 |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, sizes in (("small", SMALL), ("large", LARGE)):
        rate = cells_per_second(sizes, gpu, training=True)
        flops = TRAINED * (sizes.flops() + sizes.head_flops()) * passes
        hours = passes / rate / 3600
        lines.append(
            f"| rank, {name} ({sizes.layers} × {sizes.hidden}) | {sizes.flops() / 1e6:,.0f} M | {flops:.1e} | "
            f"{60 * hours:,.0f} min ({rate:,.0f} cells/s) | {60 * hours / 8:,.1f} min | ${hours * prices.gpu:,.2f} | "
            f"{rate * drawing:,.1f} |"
        )
    return "\n".join([*lines, "", "GPU figures are roofline estimates; none was measured."])


def _bounds(costs: dict[str, Any], gpu: Accelerator) -> str:
    """What the tables add up to: bytes over the network, cores for each card."""
    n, of, size = SECTIONS * CELLS, costs["seconds a cell"], costs["bytes a cell"]
    around = of["read and lay out"] + of["put together and write"]
    default = around + of["own vectors"] + of["in the tissue"]
    # Read once; laid out and pieces written and read; so are the vectors (as large as the pieces) before they are put
    # into the result.
    moved = size["counts as delivered"] + 2 * size["laid out"] + 4 * size["pieces"] + size["result"]
    minutes = moved * n / 1e9 / NETWORK / 60
    drawing = CORPUS * EPOCHS * of["draw for pretraining"] / 60
    feeding = [cells_per_second(sizes, gpu) * around for sizes in (SMALL, LARGE)]
    rows = [
        ("default model: the tissue stage, of the time", f"{of['in the tissue'] / default:.0%}"),
        ("default model: reading, laying out and writing, of the time", f"{around / default:.0%}"),
        ("500 M cells, read and written in all", f"{moved * n / 1e9:,.0f} GB"),
        (f"the same at {NETWORK:g} GB/s", f"{minutes:,.0f} min"),
        ("cores that take as long with the default model", f"{default * n / 60 / minutes:,.0f}"),
        (
            "cores that read and write for one H200 at its roofline, small and large",
            "{:,.0f} and {:,.0f}".format(*feeding),
        ),
        ("pretraining: drawing, one process", f"{drawing:,.0f} min"),
        ("pretraining: drawing, eight processes", f"{drawing / 8:,.1f} min"),
    ]
    return "\n".join(["| what bounds it | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def _hours(value: float) -> str:
    if value == 0:
        return "–"
    return f"{value:,.0f}" if value >= 10 else f"{value:,.1f}"


def main(arguments: list[str] | None = None) -> int:
    """Measure where asked to, and write the plan into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="measure unit costs on this machine first")
    parser.add_argument("--cells", type=int, default=100_000, help="of the section to measure on")
    parser.add_argument("--core", type=float, default=Prices.core, help="price of a core and hour")
    parser.add_argument("--gpu", type=float, default=Prices.gpu, help="price of a GPU and hour")
    parser.add_argument("--sections", type=Path, default=FOLDER, help="where simulated sections are kept")
    options = parser.parse_args(arguments)
    if options.measure:
        costs = measure(Sections(options.sections), options.cells)
        RECORD.write_text(json.dumps(costs, indent=1) + "\n", encoding="utf-8")
    costs = json.loads(RECORD.read_text(encoding="utf-8"))
    replace_block(PAGE, plan(costs, Prices(options.core, options.gpu)), "benchmarks/scaling.py")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
