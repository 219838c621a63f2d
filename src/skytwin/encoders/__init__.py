"""PIXELS -> VECTORS: torch lives here and nowhere else."""
