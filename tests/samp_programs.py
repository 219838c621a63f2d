"""A SAMP hub and a program such as TOPCAT at it, by pyvo's (once astropy's) real ones."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from astropy.io import votable
from astropy.table import Table
from pyvo.samp import SAMPHubServer, SAMPIntegratedClient, conf


def lock_file(folder: Path) -> tuple[str, str]:
    """The variable of the environment that names the hub's file, and its value."""
    return "SAMP_HUB", f"std-lockurl:file://{folder / 'samp-hub'}"


@contextlib.contextmanager
def hub_running() -> Iterator[SAMPHubServer]:
    with conf.set_temp("use_internet", False):
        server = SAMPHubServer(web_profile=False, addr="127.0.0.1")
        server.start()
        try:
            yield server
        finally:
            if server.is_running:
                server.stop()


class Viewer:
    """A program such as TOPCAT: loads the tables it is sent, and points at things."""

    def __init__(self, name: str = "Viewer 1.0", *, works: bool = True) -> None:
        self.tables: queue.Queue[tuple[dict[str, Any], Table]] = queue.Queue()
        self.works = works
        self.client = SAMPIntegratedClient(name=name, addr="127.0.0.1")
        self.client.connect()
        self.client.bind_receive_call("table.load.votable", self.load)

    def load(self, key: str, sender: str, number: str, mtype: str, params: Any, extra: Any) -> None:
        if not self.works:
            return self._refuse(number, "no memory")
        try:
            # Read as it comes: the file need not outlive the reply.
            path = urlsplit(params["url"]).path
            table = votable.parse(path, verify="exception").get_first_table().to_table()
        except Exception as why:  # else the sender waits, and nobody learns of it
            return self._refuse(number, repr(why))
        self.tables.put((dict(params), table))
        return self.client.reply(number, {"samp.status": "samp.ok", "samp.result": {}})

    def _refuse(self, number: str, why: str) -> None:
        error = {"samp.status": "samp.error", "samp.error": {"samp.errortxt": why}}
        return self.client.reply(number, error)

    def say(self, mtype: str, **params: Any) -> None:
        self.client.enotify_all(mtype, **params)

    def got(self) -> tuple[dict[str, Any], Table]:
        return self.tables.get(timeout=20)
