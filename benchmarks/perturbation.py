"""In-silico perturbation, measured: speed beside the reference way, screening, marker genes.

    python benchmarks/perturbation.py                          # all of it; writes docs/perturbation.md (half an hour)
    python benchmarks/perturbation.py --only markers --docs "" # the table of marker genes, printed

The reference way writes a data-set row a variant with Hugging Face's ``datasets``; where that is not installed
(the extra ``bench`` brings it), the same rows go into an Arrow table, which is quicker.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # run as a file, Python looks beside it only
    sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from benchmarks import perturbation_markers as markers  # noqa: E402
from benchmarks import perturbation_speed as speed  # noqa: E402
from benchmarks import tables  # noqa: E402
from benchmarks.reference.sections import labelled_section  # noqa: E402

DOCS = ROOT / "docs" / "perturbation.md"
PARTS = ("speed", "screening", "markers")
MODELS = {"tissue-breast": "Cell tokens (the default model)", "rank-breast": "Gene tokens"}
SIZES = {"tissue-breast": (500, 40, 0), "rank-breast": (12, 6, 1)}
"""Cells for our rates, for the reference, and for the reference padded to the model's length."""


def main() -> None:
    """Measure; write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}, comma between")
    parser.add_argument("--models", default=",".join(MODELS), help="comma between")
    parser.add_argument("--cells", type=int, help="cells of the screens, other than the page's")
    parser.add_argument("--docs", default=str(DOCS), help='page whose tables are replaced; "" prints them')
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    chosen, models = arguments.only.split(","), arguments.models.split(",")
    table = labelled_section()
    text = {}
    for part in chosen:
        if part == "markers":
            text[part] = markers.table_of(markers.measure())
            continue
        pieces = []
        for model in models:
            if part == "speed":
                body = speed.rates_table(speed.rates(table, model, *SIZES[model]))
            else:
                sizes = speed.SCREENED[model]
                found = speed.screening(table, model, sizes.in_cells(arguments.cells or sizes.cells))
                body = speed.screening_words(found)
            pieces.append(f"**{MODELS[model]}** (`{model}`)\n\n{body}")
        text[part] = "\n\n".join(pieces)
    for part, body in text.items():
        if arguments.docs:
            tables.replace_block(Path(arguments.docs), body, f"benchmarks/perturbation.py --only {part}")
        else:
            sys.stdout.write(f"{part}\n\n{body}\n\n")


if __name__ == "__main__":
    main()
