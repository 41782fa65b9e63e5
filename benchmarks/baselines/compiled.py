"""The eager network through torch.compile: what the newest of torch's compilers would make of the same weights."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from app.artifact import manifest
from app.engines import Outputs
from benchmarks.baselines.naive_model import network
from training.models.servable import Normalise, Servable


class CannotCompile(Exception):
    """torch.compile does not work here, for want of a C++ compiler perhaps; the message is one sentence."""


class CompiledEngine:
    """See app.engines.Engine; one thread on the CPU, the weights frozen into the code, code of its own a batch size."""

    device = "cpu"

    def __init__(self, artifact: Path, batches: Sequence[int]) -> None:
        """Compile for `batches`, some 10 s each unless TORCHINDUCTOR_CACHE_DIR has them. Raises CannotCompile."""
        os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # no pool of processes that would outlive this one
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # that there is no GPU
        torch.set_num_threads(1)
        described = manifest.load(artifact)
        spec = described.input
        servable = Servable(network(artifact), Normalise(spec.mean, spec.std), described.temperature)
        self._module = torch.compile(servable, dynamic=False, options={"freezing": True})
        try:
            for batch in batches:
                self.run(np.zeros((batch, spec.height, spec.width, 3), np.uint8))
        except Exception as error:  # the compiler raises whatever one of its many layers meets
            raise CannotCompile(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}") from None

    def run(self, pixels: NDArray[np.uint8]) -> Outputs:
        """See app.engines.Runs."""
        with torch.no_grad():
            probabilities, logits, heatmap = self._module(torch.from_numpy(pixels))
        return Outputs(probabilities.numpy(), logits.numpy(), None if heatmap is None else heatmap.numpy())
