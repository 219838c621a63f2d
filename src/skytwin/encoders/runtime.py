"""Where a torch network runs: OpenVINO on a CPU that has it, else torch.

OpenVINO fuses what torch runs one layer at a time: on two cores MobileNetV2 at 224 pixels goes
seven times faster, with vectors equal to 1e-5. Shapes: ``x_BCHW`` images, ``z_BD`` vectors.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import torch

from skytwin.errors import UsageError, unknown

__all__ = [
    "RUNTIMES",
    "Run",
    "Runtime",
    "choose_device",
    "choose_runtime",
    "keep_memory",
    "openvino_run",
    "torch_run",
]

Runtime = Literal["auto", "torch", "openvino"]
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
Run = Callable[[np.ndarray], np.ndarray]
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt


def choose_device(wanted: str) -> torch.device:
    """The device of a name: ``"cpu"``, ``"cuda"``, or ``"auto"``, cuda where there is one.

    Raises
    ------
    UnknownName
        No such device.
    UsageError
        ``"cuda"`` is asked for and there is none.
    """
    if wanted not in ("auto", "cpu", "cuda"):
        raise unknown("device", wanted, ("auto", "cpu", "cuda"))
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise UsageError("device 'cuda' asked for, but torch finds none; use --device cpu or auto")
    return torch.device("cuda" if there and wanted != "cpu" else "cpu")


def choose_runtime(wanted: str, device: torch.device) -> Literal["torch", "openvino"]:
    """Settle ``"auto"``: OpenVINO on a CPU where it is installed.

    Raises
    ------
    UnknownName
        No such runtime.
    UsageError
        OpenVINO is asked for and is not installed, or the device is no CPU.
    """
    if wanted not in RUNTIMES:
        raise unknown("runtime", wanted, RUNTIMES)
    there = importlib.util.find_spec("openvino") is not None
    if wanted == "openvino":
        if not there:
            raise UsageError("runtime 'openvino' is not installed; install skytwin[openvino]")
        if device.type != "cpu":
            raise UsageError(f"runtime 'openvino' runs on the cpu, not on {device.type}")
        return "openvino"
    return "openvino" if wanted == "auto" and there and device.type == "cpu" else "torch"


def torch_run(model: Any, device: torch.device) -> Run:
    """Run a model in evaluation mode with torch, channels last."""
    placed = model.eval().to(device=device, memory_format=torch.channels_last)

    def run(x_BCHW: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            x = torch.from_numpy(x_BCHW).to(device, memory_format=torch.channels_last)
            return np.asarray(placed(x).float().cpu().numpy())

    return run


def openvino_run(model: Any, channels: int, size: int) -> Run:
    """Run a model in evaluation mode with OpenVINO on the CPU, in float32.

    Equivalent to `torch_run` within rounding; a test holds them equal.
    """
    # The frontend itself, not openvino.convert_model: that one reports its use to the network.
    from openvino import Core
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with warnings.catch_warnings():
        # torch announces the end of the tracing that the frontend still uses.
        warnings.simplefilter("ignore")
        example = torch.zeros(1, channels, size, size)
        decoder = TorchScriptPythonDecoder(model.eval(), example_input=example)
        frontend = FrontEndManager().load_by_framework("pytorch")
        converted = frontend.convert(frontend.load(decoder))
    # Without the hint a CPU with bfloat16 units would use them, unasked.
    compiled = Core().compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(x_BCHW: np.ndarray) -> np.ndarray:
        return np.array(compiled(x_BCHW)[0], dtype=np.float32)

    return run


def keep_memory() -> None:
    """Have the process keep the memory that a pass frees, where the C library is glibc.

    Otherwise every layer's output is mapped anew: 8000 page faults per image, which took half of
    the processor's time in MobileNetV2 at 224 pixels.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, 1 << 30)
