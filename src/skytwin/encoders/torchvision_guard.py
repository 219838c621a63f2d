"""timm needs torchvision, and torchvision needs its compiled part only to draw boxes.

Where that part cannot be loaded (built for another torch, or for another machine), importing
torchvision, and with it timm, fails: it describes the operators ``nms`` and ``qnms``, which then
do not exist. No network here uses them, so it is enough that they are declared.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import torch

__all__ = ["import_timm"]

_SCHEMAS = tuple(
    f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor" for name in ("nms", "qnms")
)
# torch forgets the declarations when this object is collected.
_declared: list[torch.library.Library] = []


def import_timm() -> ModuleType:
    """timm, imported so that a torchvision without its compiled part is no obstacle.

    Nothing is declared where torchvision is whole, imported before, or absent.
    """
    if not _declared and not hasattr(torch.ops.torchvision, "nms") and not _compiled_part_loads():
        library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for schema in _SCHEMAS:
            library.define(schema)  # type: ignore[no-untyped-call]
        _declared.append(library)
    import timm  # only now: it imports torchvision

    return timm


def _compiled_part_loads() -> bool:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True  # absent: timm's own import error says so
    libraries = sorted(Path(spec.origin).parent.glob("_C*.so"))
    try:
        # torchvision loads the very same file afterwards, which does nothing the second time.
        for library in libraries:
            torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
    except OSError:
        return False
    return bool(libraries)
