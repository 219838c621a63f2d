"""The Virtual Observatory: SAMP, cone search, footprints, links to other archives."""

from __future__ import annotations

import importlib.util

from skytwin.errors import UsageError

__all__ = ["require_extra"]


def require_extra(what: str, package: str, extra: str = "vo") -> None:
    """Refuse what an optional package is needed for, where it is not installed.

    Raises
    ------
    UsageError
        It is not there.
    """
    if importlib.util.find_spec(package) is None:
        raise UsageError(f"{what} needs {package}; install it with: pip install 'skytwin[{extra}]'")
