"""VECTORS -> SCIENCE: one verb per file."""
