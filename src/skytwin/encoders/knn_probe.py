"""What the representation knows of a label while it is trained: nearest neighbours vote."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from skytwin.encoders.training_set import Rows
from skytwin.errors import UsageError, unknown
from skytwin.images.cutouts import Cutouts

__all__ = ["Probe", "make_probe"]

_MOST = 5000


@dataclass(frozen=True, eq=False, kw_only=True)
class Probe:
    """Labelled images, by their places in the training set.

    Attributes
    ----------
    fitted, asked : ndarray of int64
        Training images that vote, and validation images that are voted on.
    labels : ndarray of str
        Of both, in this order.
    neighbours : int
    """

    fitted: np.ndarray
    asked: np.ndarray
    labels: np.ndarray
    neighbours: int

    def score(self, encode: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
        """Accuracy of the vote, beside that of always the most frequent class.

        Parameters
        ----------
        encode : callable
            Vectors ``(n, D)`` of places in the training set.
        """
        count = len(self.fitted)
        z_ND = encode(np.concatenate([self.fitted, self.asked]))
        scaler = StandardScaler().fit(z_ND[:count])
        z_ND = scaler.transform(z_ND)
        votes = KNeighborsClassifier(min(self.neighbours, count)).fit(
            z_ND[:count], self.labels[:count]
        )
        right = votes.predict(z_ND[count:]) == self.labels[count:]
        _, often = np.unique(self.labels[count:], return_counts=True)
        return {
            "knn_accuracy": float(right.mean()),
            "knn_base_rate": float(often.max() / often.sum()),
            "knn_images": float(len(right)),
        }


def make_probe(cutouts: Cutouts, rows: Rows, label: str, neighbours: int, seed: int) -> Probe:
    """The labelled images of a training run; of more than 5000 on a side a random 5000.

    Raises
    ------
    UnknownName
        No such column.
    UsageError
        Fewer than two classes among the training images, or no labelled validation image.
    """
    if label not in cutouts.catalog.column_names:
        raise unknown("column", label, cutouts.catalog.column_names)
    values = np.array(
        ["" if v is None else str(v) for v in cutouts.catalog[label].to_pylist()], dtype=object
    )
    random = np.random.default_rng(seed)

    def labelled(side: np.ndarray, first: int) -> np.ndarray:
        places = np.flatnonzero(values[side] != "")
        if len(places) > _MOST:
            places = np.sort(random.choice(places, _MOST, replace=False))
        return places + first

    fitted = labelled(rows.train, 0)
    asked = labelled(rows.validate, len(rows.train))
    every = np.concatenate([rows.train, rows.validate])
    labels = values[every[np.concatenate([fitted, asked])]]
    classes = set(labels[: len(fitted)])
    if len(classes) < 2 or not len(asked):
        raise UsageError(
            f"label {label}: {len(classes)} class(es) among the training images and {len(asked)} "
            "labelled validation images; the probe needs 2 classes and 1 image: leave --label out, "
            "or set validation.share"
        )
    return Probe(fitted=fitted, asked=asked, labels=labels, neighbours=neighbours)
