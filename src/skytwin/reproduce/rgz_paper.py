"""What Andrianomena & Tang 2023 (arXiv 2311.08331) report, as far as this study speaks of it.

Accuracy, specificity and recall are given there in two digits; the intervals here are Jeffreys
intervals of the counts these make of the test rows, ours and not the paper's.
"""

from __future__ import annotations

from dataclasses import dataclass

from skytwin.answers.intervals import Proportion

__all__ = ["BATCH_ROWS", "CITED", "METHODS", "ROWS", "SETS", "UNLABELLED", "PaperRow", "PaperSet"]

CITED = (
    (
        "Andrianomena, S., & Tang, H. 2023, Radio Galaxy Zoo: Leveraging latent space "
        "representations from variational autoencoder, JCAP 06 (2024) 034, arXiv 2311.08331",
        "https://arxiv.org/abs/2311.08331",
    ),
)
#: About how many images of RGZ DR1 its encoders were trained on.
UNLABELLED = 100_000
#: Rows that a tree of its forest is grown on.
BATCH_ROWS = 1000
METHODS = {"vdvae": "VDVAE", "simclr": "SimCLR", "byol": "BYOL", "simsiam": "SimSiam"}


@dataclass(frozen=True, kw_only=True)
class PaperSet:
    """A labelled set of the paper: rows to learn from and to test on, by class there."""

    key: str
    title: str
    train: int
    test: int
    fri: int
    frii: int


SETS = {
    "mirabest": PaperSet(
        key="mirabest", title="MiraBest Confident", train=729, test=104, fri=49, frii=55
    ),
    "frdeep": PaperSet(key="frdeep", title="FR-DEEP NVSS", train=550, test=50, fri=22, frii=28),
}


@dataclass(frozen=True, kw_only=True)
class PaperRow:
    """A cell of the paper's Table 2: its best classifier on one representation and one set."""

    labelled: str
    method: str
    classifier: str
    accuracy: float
    auc: float
    specificity: float
    recall: float

    def proportion(self, metric: str) -> Proportion:
        """``accuracy``, ``specificity`` (of FRI) or ``recall`` (of FRII) as counted."""
        found = SETS[self.labelled]
        total = {"accuracy": found.test, "specificity": found.fri, "recall": found.frii}[metric]
        return Proportion.of(round(getattr(self, metric) * total), total)


def _row(labelled: str, method: str, classifier: str, *numbers: float) -> PaperRow:
    accuracy, auc, specificity, recall = numbers
    return PaperRow(
        labelled=labelled,
        method=method,
        classifier=classifier,
        accuracy=accuracy,
        auc=auc,
        specificity=specificity,
        recall=recall,
    )


ROWS = (
    _row("mirabest", "vdvae", "ext", 0.82, 0.90, 0.82, 0.82),
    _row("mirabest", "simclr", "svc", 0.72, 0.82, 0.71, 0.73),
    _row("mirabest", "byol", "svc", 0.73, 0.77, 0.73, 0.73),
    _row("mirabest", "simsiam", "ext", 0.73, 0.80, 0.61, 0.84),
    _row("frdeep", "vdvae", "ext", 0.80, 0.87, 0.73, 0.86),
    _row("frdeep", "simclr", "lr", 0.86, 0.84, 0.77, 0.93),
    _row("frdeep", "byol", "svc", 0.84, 0.88, 0.68, 0.96),
    _row("frdeep", "simsiam", "lr", 0.82, 0.83, 0.73, 0.89),
)
