"""The ``skytwin`` command: one sub-command per verb, each opens, calls, saves and prints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from skytwin.cli_adopt import adopt
from skytwin.cli_audit import audit
from skytwin.cli_certify import app as certify_app
from skytwin.cli_compare import compare
from skytwin.cli_explain import explain
from skytwin.cli_fetch import fetch
from skytwin.cli_generate import generate
from skytwin.cli_images import embed, ingest
from skytwin.cli_importance import importance
from skytwin.cli_index import index, join
from skytwin.cli_labels import app as labels_app
from skytwin.cli_map import map_
from skytwin.cli_options import DisplayText
from skytwin.cli_outliers import outliers
from skytwin.cli_probe import predict, probe
from skytwin.cli_reproduce import app as reproduce_app
from skytwin.cli_search import purity, search
from skytwin.cli_serve import serve
from skytwin.cli_simulate import simulate
from skytwin.cli_train import train
from skytwin.cli_twins import twins
from skytwin.cli_vo import footprint, samp
from skytwin.errors import SkytwinError

__all__ = ["app", "main"]

app = typer.Typer(
    name="skytwin",
    help="Find more objects like these, in my survey, with a purity I can trust.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for verb in (
    fetch,
    ingest,
    simulate,
    train,
    generate,
    embed,
    adopt,
    join,
    index,
    search,
    purity,
    compare,
    explain,
    audit,
    twins,
    outliers,
    importance,
    probe,
    predict,
    serve,
    samp,
    footprint,
):
    app.command()(verb)
app.command("map")(map_)
app.add_typer(certify_app, name="certify")
app.add_typer(labels_app, name="labels")
app.add_typer(reproduce_app, name="reproduce")
_INTERRUPTED = 130


def _tell_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(version("skytwin"))
        raise typer.Exit


@app.callback()
def skytwin(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Say which it is."),
    ] = False,
) -> None:
    """Find more objects like these, in my survey, with a purity I can trust."""


@app.command()
def info(
    folder: Annotated[Path, typer.Argument(help="Any folder that skytwin wrote.")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every byte, whatever the time stamps say.")
    ] = False,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", help="Save a picture of the first cutouts (.png).")
    ] = None,
    display: DisplayText = None,
) -> None:
    """Say what a folder holds, how it was made and from what."""
    from skytwin import report

    typer.echo(report.describe_folder(folder, verify=verify))
    if sheet is not None:
        report.save_sheet(folder, sheet, display)


def main() -> None:
    """Run the command; a `SkytwinError` becomes one line and its exit code."""
    try:
        status = app(standalone_mode=False)
    except SkytwinError as error:
        _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        status = _INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # the reader has gone: there is no one to tell
        sys.exit(0)
    except OSError as error:
        _fail(f"{error.strerror or error}: {error.filename or 'the output'}", 1)
    except Exception as error:
        # Click's own usage errors know how to show themselves.
        if not hasattr(error, "format_message"):
            raise
        _fail(error.format_message(), getattr(error, "exit_code", 2))
    # Typer gives an interrupt back as a status, or raises it, by its version.
    if status == _INTERRUPTED:
        _fail("interrupted; repeat the command to resume", _INTERRUPTED)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str, code: int) -> None:
    # One line whatever a file's name holds, and nothing that steers a terminal.
    line = "".join(c if c.isprintable() else "?" for c in " ".join(message.split()))
    sys.stderr.write(f"skytwin: error: {line}\n")
    sys.exit(code)
