"""Gene vocabulary, panels, medians, and rank value encoding: cells as sentences of gene tokens."""
