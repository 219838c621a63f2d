"""VECTORS AT REST: stored, memory-mapped, scanned."""
