"""The systems under `examples/`, each run whole."""
