"""Lightning and lightly, imported once torchvision can be (see `torchvision_guard`)."""

from __future__ import annotations

from skytwin.encoders.torchvision_guard import import_timm

timm = import_timm()

import pytorch_lightning as pl  # noqa: E402  (they import torchvision)
from lightly.loss import NegativeCosineSimilarity, NTXentLoss  # noqa: E402
from lightly.models.modules.heads import ProjectionHead  # noqa: E402
from lightly.models.utils import update_momentum  # noqa: E402
from lightly.utils.lars import LARS  # noqa: E402
from lightly.utils.scheduler import cosine_schedule, cosine_warmup_schedule  # noqa: E402
from pytorch_lightning.loggers import TensorBoardLogger  # noqa: E402

__all__ = [
    "LARS",
    "NTXentLoss",
    "NegativeCosineSimilarity",
    "ProjectionHead",
    "TensorBoardLogger",
    "cosine_schedule",
    "cosine_warmup_schedule",
    "pl",
    "timm",
    "update_momentum",
]
