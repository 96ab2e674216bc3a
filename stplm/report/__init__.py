"""Plots of the tissue, tables, and the one-page HTML summary."""
