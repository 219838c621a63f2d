"""What Doorenbos et al. 2022 (A&A 666, A171) report, as far as this study speaks of it.

Shares are given there in rounded percent; counts of positives are what these make, and intervals
are Jeffreys intervals of those counts, ours and not the paper's.
"""

from __future__ import annotations

from dataclasses import dataclass

from skytwin.answers.intervals import Proportion

__all__ = [
    "AGN_NEAR",
    "AGN_NEAR_BASE",
    "BANDS_COST",
    "BANDS_LOSE",
    "BANDS_OF",
    "BASE",
    "CITED",
    "CROSS",
    "OBJECTS",
    "QSO",
    "QSO_BASE",
    "RANGE",
    "RANGE_BASE",
    "SIZE",
    "TOP",
    "PaperObject",
]

CITED = (
    (
        "Doorenbos, L., et al. 2022, ULISSE: A tool for one-shot sky exploration and its "
        "application to active galactic nuclei detection, A&A 666, A171",
        "https://doi.org/10.1051/0004-6361/202243900",
    ),
)
#: Objects in each of the paper's two sets.
SIZE = 100_000
#: Share of AGN in the first.
BASE = 0.11
#: Purity of the lists of its prototypes, and the base rate given with that range.
RANGE, RANGE_BASE = (0.21, 0.65), 0.12
#: QSO among the nearest 1000, for two prototypes.
TOP, QSO, QSO_BASE = 1000, (0.404, 0.536), 0.162
#: AGN of z < 0.2 among the nearest 1000, for five.
AGN_NEAR, AGN_NEAR_BASE = (0.025, 0.016, 0.029, 0.038, 0.023), 0.0113
#: Prototypes that lose where the i band stands alone, of how many, and up to how much.
BANDS_LOSE, BANDS_OF, BANDS_COST = 8, 10, 0.10
#: Objects of another survey within the thresholds of the two objects.
CROSS = (47, 0)


@dataclass(frozen=True, kw_only=True)
class PaperObject:
    """One of the paper's two prototypes: its threshold, and the lists within it."""

    name: str
    threshold: float
    count: int
    share: float
    second_count: int
    second_share: float

    @property
    def here(self) -> Proportion:
        """AGN within the threshold, on the set where it was chosen."""
        return Proportion.of(round(self.count * self.share), self.count)

    @property
    def there(self) -> Proportion:
        """AGN within it on the second set."""
        return Proportion.of(round(self.second_count * self.second_share), self.second_count)


OBJECTS = (
    PaperObject(
        name="Object 1", threshold=4.6, count=232, share=0.42, second_count=345, second_share=0.38
    ),
    PaperObject(
        name="Object 2", threshold=3.25, count=70, share=0.54, second_count=81, second_share=0.54
    ),
)
