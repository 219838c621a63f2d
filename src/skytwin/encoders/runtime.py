"""Where a torch network runs: OpenVINO on a CPU that has it, else torch.

OpenVINO fuses what torch runs one layer at a time, and gives each processor images of its own, a
few at a time, so that what passes between layers stays in its cache: on two cores EfficientNet-B0
at 224 pixels goes several times faster (docs/performance.md), with vectors equal to 1e-5.

Shapes: ``x_BCHW`` images, ``z_BD`` vectors. What is returned may be called by several threads at
once.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import queue
import threading
import warnings
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import torch

from skytwin.encoders.compiled import Compiled
from skytwin.encoders.on_device import DeviceRun
from skytwin.errors import UsageError, one_of, unknown
from skytwin.threads import thread_count

__all__ = [
    "PRECISIONS",
    "RUNTIMES",
    "Engine",
    "Precision",
    "Run",
    "Runtime",
    "check_precision",
    "choose_device",
    "choose_runtime",
    "engine_run",
    "keep_memory",
    "openvino_run",
    "torch_run",
]

Runtime = Literal["auto", "torch", "compiled", "openvino"]
Engine = Literal["torch", "compiled", "openvino"]
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
Precision = Literal["f32", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
Run = Callable[[np.ndarray], np.ndarray]
# Pixels of a side times images of a pass: a few images of 224, more of smaller ones, whose
# overhead counts. Measured: past that, layers no longer find their input in the cache.
_SIDES_PER_PASS = 448
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


def choose_runtime(wanted: str, device: torch.device) -> Engine:
    """Settle ``"auto"``: OpenVINO on a CPU where it is installed, else torch as it is.

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
    if wanted == "compiled":
        return "compiled"
    return "openvino" if wanted == "auto" and there and device.type == "cpu" else "torch"


def check_precision(wanted: str, device: torch.device, runtime: str) -> Precision:
    """A precision that is there, and that the processor has units for.

    Raises
    ------
    UnknownName
        No such precision.
    UsageError
        The processor cannot.
    """
    precision = one_of("precision", wanted, PRECISIONS)
    if precision == "bf16" and runtime == "openvino":
        from openvino import Core  # an extra; the caller has found it installed

        if "BF16" not in Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise UsageError("precision 'bf16': this processor has no units for it; use f32")
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise UsageError("precision 'bf16': this GPU has no units for it; use f32")
    return precision


def engine_run(
    model: Any,
    engine: Engine,
    *,
    channels: int,
    size: int,
    device: torch.device,
    precision: Precision = "f32",
) -> Run:
    """Run a model in evaluation mode with what `choose_runtime` has settled on."""
    if engine == "openvino":
        return openvino_run(model, channels, size, precision)
    return torch_run(model, device, precision, compiled=engine == "compiled")


def torch_run(
    model: Any, device: torch.device, precision: Precision = "f32", *, compiled: bool = False
) -> Run:
    """Run a model in evaluation mode with torch, channels last; a `DeviceRun` on a GPU.

    Compiled, it is made into code of its own for the first batch, which takes a minute or so.
    """
    if device.type == "cuda":
        return DeviceRun(model, device, precision, compiled=compiled)
    placed = model.eval().to(memory_format=torch.channels_last)
    if compiled:
        placed = Compiled(placed)
    alone = threading.Lock()  # torch spreads one pass over all processors by itself

    def run(x_BCHW: np.ndarray) -> np.ndarray:
        with (
            alone,
            torch.inference_mode(),
            torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
        ):
            there = torch.from_numpy(x_BCHW).contiguous(memory_format=torch.channels_last)
            return np.asarray(placed(there).float().numpy())

    return run


def openvino_run(model: Any, channels: int, size: int, precision: Precision = "f32") -> Run:
    """Run a model in evaluation mode with OpenVINO on the CPU.

    Equivalent to `torch_run` within rounding; a test holds them equal. A call takes one processor,
    and as many calls as there are processors run side by side.
    """
    # The frontend itself, not openvino.convert_model: that one reports its use to the network.
    from openvino import Core
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with warnings.catch_warnings():
        # torch announces the end of the tracing that the frontend still uses.
        warnings.simplefilter("ignore")
        example = torch.zeros(1, channels, size, size)
        # Tracing has its own result run again and compared; the tests do that once.
        decoder = TorchScriptPythonDecoder(
            model.eval(), example_input=example, trace_kwargs={"check_trace": False}
        )
        frontend = FrontEndManager().load_by_framework("pytorch")
        converted = frontend.convert(frontend.load(decoder))
    threads = thread_count()
    compiled = Core().compile_model(
        converted,
        "CPU",
        {
            # Without the hint a CPU with bfloat16 units would use them, unasked.
            "INFERENCE_PRECISION_HINT": precision,
            "NUM_STREAMS": threads,
            "INFERENCE_NUM_THREADS": threads,
        },
    )
    free: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for _ in range(threads):
        free.put(compiled.create_infer_request())
    step = max(1, round(_SIDES_PER_PASS / size))

    def run(x_BCHW: np.ndarray) -> np.ndarray:
        request = free.get()
        try:
            parts = [
                # A copy: the request's memory is written to by the next pass.
                np.array(request.infer([x_BCHW[i : i + step]], share_inputs=True)[0], np.float32)
                for i in range(0, len(x_BCHW), step)
            ]
        finally:
            free.put(request)
        return np.concatenate(parts)

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
