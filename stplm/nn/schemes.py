"""How a cell's two outputs, tumour call and type, make one set of probabilities. Apart, so that no form loads torch."""

from __future__ import annotations

from typing import Literal

Scheme = Literal["joint", "hierarchical"]
