"""Places elsewhere: ``s3://bucket/folder``, ``https://host/file.h5`` and their like.

An address may come as a `Path`, which makes one slash of two; and it may hold what opens it (a
password before the host, a signature behind the question mark), which belongs in no manifest.
"""

from __future__ import annotations

import re
from pathlib import Path

from skytwin.errors import UsageError

__all__ = ["address_of", "name_of", "require_here", "shown"]

# A scheme of two letters or more: a single one is a drive.
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.+)", re.DOTALL)
# In the name of a file a question mark may be a letter like any other.
_QUERY, _SIGNED = re.compile(r"[?#]"), re.compile(r"\?[\w-]+=")
# What stands before the @ is a container or a repository, no user.
_NAMES_A_PART = ("abfs", "abfss", "az", "github")


def address_of(path: str | Path) -> str | None:
    """The address that a path stands for, its slashes restored; None for a place on this machine.

    ``file:///data/cube.h5`` is such an address too.
    """
    found = _ADDRESS.fullmatch(str(path))
    if found is None:
        return None
    scheme, rest = found[1].lower(), found[2]
    return f"{scheme}://{'/' if scheme in ('file', 'local') else ''}{rest}"


def shown(path: str | Path) -> str:
    """A path as manifests and messages have it: of an address neither password nor signature."""
    address = address_of(path)
    if address is None:
        return str(path)
    scheme, _, rest = address.partition("://")
    cut = _QUERY if scheme in ("http", "https") else _SIGNED
    host, slash, below = cut.split(rest, maxsplit=1)[0].partition("/")
    if scheme not in _NAMES_A_PART:
        host = host.rpartition("@")[2]
    return f"{scheme}://{host}{slash}{below}".rstrip("/")


def name_of(path: str | Path) -> str:
    """The last part of a path or address: the file's name."""
    return Path(shown(path)).name


def require_here(path: str | Path) -> None:
    """Refuse an address as a place to write in.

    Raises
    ------
    UsageError
        It is one.
    """
    if address_of(path) is not None:
        raise UsageError(
            f"cannot write to {shown(path)!r}: results are written on this machine, where a "
            "killed run can be resumed; give a local folder or file, then copy it there"
        )
