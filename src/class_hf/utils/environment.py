"""The machine and the library versions that a number was measured with."""

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import torch

from class_hf._version import __version__
from class_hf.utils.json_text import JsonValue

_LIBRARIES = ("torch", "transformers", "accelerate", "datasets", "rdkit", "numpy")


def environment() -> dict[str, JsonValue]:
    """The machine of this process and the versions of its libraries.

    Returns:
        `processor` (name of the model), `cores`, `threads` (of torch, in this process), `gpu` (name or None), and
        `versions` by library, with this package and Python.

    >>> sorted(environment())
    ['cores', 'gpu', 'processor', 'threads', 'versions']
    """
    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": {
            "class_hf": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in _LIBRARIES},
        },
    }


def processor_name() -> str:
    """The name of the processor's model, or of its architecture.

    >>> len(processor_name()) > 0
    True
    """
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def peak_memory_bytes(device: torch.device) -> int | None:
    """Peak memory of this process, in bytes.

    Args:
        device: the device of the model.

    Returns:
        The peak on the GPU for a CUDA device, else the peak resident memory of the process. None on Windows.

    >>> peak_memory_bytes(torch.device("cpu")) > 0
    True
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes on macOS, KiB elsewhere
