"""A network that torch has made into code of its own for one length of batch.

`torch.compile` fuses what is otherwise run one layer at a time. It takes a minute or so for every
new shape, so there is one: batches that are shorter are filled up, and what that adds is left out.
"""

from __future__ import annotations

import threading
import warnings
from typing import Any

import torch

from skytwin.errors import UsageError, in_words

__all__ = ["Compiled"]


class Compiled:
    """Calls a model in evaluation mode, compiled for the longest batch so far.

    Equivalent to the model within rounding. What is filled up changes no other image's vector,
    since nothing is shared in evaluation mode. Threads take turns; on a GPU they only wait until
    the other's work is in its stream.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._run: Any = model
        self._length = 0
        self._alone = threading.Lock()

    def __call__(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """What the model makes of images on its device.

        Raises
        ------
        UsageError
            There is nothing to compile with: a C++ compiler, on a GPU Triton.
        """
        count = len(x_BCHW)
        with self._alone:
            if count > self._length:
                found = self._first(x_BCHW)
                self._length = count
                return found
            if count < self._length:
                missing = x_BCHW.new_zeros(self._length - count, *x_BCHW.shape[1:])
                x_BCHW = torch.cat([x_BCHW, missing])
                x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
            whole: torch.Tensor = self._run(x_BCHW)
        return whole[:count]

    def _first(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Compile, and run."""
        try:
            with warnings.catch_warnings():
                # torch announces the end of what its own compiler uses.
                warnings.simplefilter("ignore", DeprecationWarning)
                if self._length == 0:
                    self._run = torch.compile(self._run, dynamic=False)
                found: torch.Tensor = self._run(x_BCHW)
        except torch._dynamo.exc.TorchDynamoException as error:
            raise UsageError(
                f"runtime 'compiled': torch cannot compile here ({in_words(error)}); install a C++ "
                "compiler, on a GPU Triton, or use --runtime torch"
            ) from error
        return found
