"""Measurements that the documentation shows; no part of the installed packages."""
