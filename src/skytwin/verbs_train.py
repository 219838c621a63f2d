"""The verb `train`: an encoder of one's own, without labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from skytwin.artefact import RUN
from skytwin.embeddings.places import places_of
from skytwin.encoders.adapt import crop_pixels
from skytwin.encoders.encoder import Encoder
from skytwin.encoders.load import load_saved
from skytwin.encoders.recipe import Recipe, read_recipe
from skytwin.errors import UsageError
from skytwin.images.cutouts import Cutouts

__all__ = ["train"]


def train(
    cutouts: Cutouts | str | Path,
    out: str | Path,
    *,
    method: str | None = None,
    recipe: Recipe | str | Path | None = None,
    changes: Sequence[str] = (),
    seed: int = 0,
    where: str | None = None,
    exclude: Sequence[str | Path] = (),
    exclude_arcsec: float = 5.0,
    label: str | None = None,
    device: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    resume: bool = False,
    quiet: bool = False,
) -> Encoder:
    """Train an encoder on cutouts, without labels.

    Parameters
    ----------
    cutouts : Cutouts or path
    out : path
        New folder, or that of an unfinished run of this very call, which goes on where it was
        and ends with the same weights as one that was never broken off (on a CPU).
    method : {"simclr", "byol", "simsiam", "vdvae"}, optional with a recipe that names it
    recipe : Recipe, path or str, optional
        A ``.toml`` file, or the name of one that comes with skytwin, such as ``"rgz-simclr"``.
    changes : sequence of str
        ``"epochs=10"``, ``"optimizer.lr=0.1"``: settings of the recipe to overrule.
    seed : int
        Of weights, views, order and split.
    where : str, optional
        SQL condition on the catalogue: train on these only, e.g. ``"split = 'train'"``.
    exclude : sequence of path
        Cutouts, embeddings or tables with RA and Dec: what lies at one of their places on the
        sky is left out, such as a labelled set the encoder will be tested on.
    exclude_arcsec : float
    label : str, optional
        Catalogue column; a kNN probe says after each epoch what the vectors know of it. No
        label enters the training.
    device : {"auto", "cpu", "cuda"}
    devices, nodes : int
        Processes (GPUs) per machine, and machines.
    resume : bool
        Insist that there is an unfinished run to go on with.
    quiet : bool
        Show no progress.

    Returns
    -------
    Encoder
        As it lies in the folder.

    Raises
    ------
    UnknownName
        No such method, recipe, backbone, column or key of a recipe.
    UsageError
        The recipe does not fit the images or the machine.
    DataError
        The loss is no number any more; what the last good epoch left is kept in the folder.
    """
    taken = cutouts if isinstance(cutouts, Cutouts) else Cutouts(cutouts)
    if isinstance(recipe, Recipe):
        if method is not None or changes:
            raise UsageError("a Recipe is complete; change it with dataclasses.replace")
        chosen = recipe
    else:
        chosen = read_recipe(recipe, method=method, changes=changes)
    if resume and not (Path(out) / RUN).is_file():
        raise UsageError(f"--resume, but {str(out)!r} holds no unfinished run; leave it out")
    if devices < 1 or nodes < 1:
        raise UsageError(f"{devices} device(s) on {nodes} node(s); expected at least 1 of each")
    if not exclude_arcsec > 0:
        raise UsageError(f"--exclude-arcsec {exclude_arcsec:g}; expected more than 0")
    try:
        # torch and Lightning take seconds to import, and are optional.
        from skytwin.encoders.train import train_encoder
    except ModuleNotFoundError as error:
        raise UsageError(
            f"training needs {error.name}, which is not installed; install skytwin[train]"
        ) from error
    folder = train_encoder(
        taken,
        chosen,
        out,
        crop=crop_pixels(chosen.input.crop, taken),
        seed=seed,
        where=where,
        exclude=[places_of(Path(path)) for path in exclude],
        exclude_arcsec=exclude_arcsec,
        label=label,
        device=device,
        devices=devices,
        nodes=nodes,
        quiet=quiet,
    )
    return load_saved(folder, device=device)
