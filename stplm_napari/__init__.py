"""STPLM in napari: state, layers and forms over calls of the engine. Importing it imports neither Qt nor torch."""
