"""What a number was measured on."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from class_hf._version import __version__

_LIBRARIES = ("torch", "transformers", "accelerate", "datasets", "rdkit", "numpy")


def environment() -> dict[str, Any]:
    """The machine of this process, and the versions it runs with.

    Returns:
        `processor` (its model's name), `cores`, `threads` (of torch, in this process), `gpu` (name or None), and
        `versions` by library, this package and Python among them.
    """
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": {
            "class_hf": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in _LIBRARIES},
        },
    }
