"""Damaged inputs of every format, by the thousand: ``python -m tests.damage --help``."""
