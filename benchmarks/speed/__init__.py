"""What speed and scale are measured of: a module a subject, each with ``measure(sections, sizes) -> list[Row]``.

``python -m benchmarks.run`` runs each in a process of its own. A module takes the ``sizes`` (cells) that it can do,
gives rows of the same name for each, and a row without figures and with the reason where something cannot be measured.
"""
