"""PIXELS: reading, cutting, storing and stretching them."""
