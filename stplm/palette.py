"""Class colours, colour-blind safe by default and the same in tissue, map, legend, plots and exports.

The first colours are Okabe & Ito's (2008); then come those of Paul Tol's schemes (2021) that stay furthest from them
and from each other, in CIELAB, under normal and the three simulated dichromatic visions; past those, colours repeat
in lighter and darker shades.
"""

from __future__ import annotations

from collections.abc import Sequence

_OKABE_ITO = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#CC79A7")
_TOL = ("#882255", "#CCDDAA", "#332288", "#999933", "#762A83", "#FFCCCC", "#117733", "#225522")
TUMOUR_COLOUR = "#D55E00"
"""Okabe & Ito's vermilion, kept for tumour."""
UNASSIGNED_COLOUR = "#9A9A9A"
_CYCLE = _OKABE_ITO + _TOL
_TUMOUR_WORDS = ("tumour", "tumor", "malignant", "cancer", "carcinoma", "dcis", "neoplas", "invasive")
_NOT_TUMOUR_WORDS = ("non-tum", "non tum", "normal", "benign", "hybrid", "non-malig", "non malig")


def is_tumour_name(name: str) -> bool:
    """Whether a class name speaks of tumour cells ("DCIS_1", "Malignant", "Invasive_Tumor"); the user may overrule."""
    low = name.lower().replace("_", " ")
    return any(w in low for w in _TUMOUR_WORDS) and not any(w in low for w in _NOT_TUMOUR_WORDS)


def class_colours(names: Sequence[str]) -> dict[str, str]:
    """``{name: "#RRGGBB"}`` in the order given; the first tumour class is vermilion. Deterministic."""
    colours: dict[str, str] = {}
    used = 0
    for name in names:
        if is_tumour_name(name) and TUMOUR_COLOUR not in colours.values():
            colours[name] = TUMOUR_COLOUR
        else:
            colours[name] = _shade(_CYCLE[used % len(_CYCLE)], used // len(_CYCLE))
            used += 1
    return colours


def _shade(colour: str, round_: int) -> str:
    """Lighter on odd rounds, darker on even ones, so that repeated hues stay distinct."""
    if round_ == 0:
        return colour
    weight = min(0.75, 0.25 + 0.15 * round_)
    target = 255 if round_ % 2 else 0
    channels = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(c + (target - c) * weight):02X}" for c in channels)
