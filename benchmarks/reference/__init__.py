"""Direct, slow implementations of published definitions, to test and time the engine against."""
