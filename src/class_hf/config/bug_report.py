"""The lines about a machine that a bug report needs."""

import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from class_hf._version import __version__

# Settings that change what a run does. None of them holds a secret.
_VARIABLES = (
    "ACCELERATE_MIXED_PRECISION", "CUDA_VISIBLE_DEVICES", "HF_DATASETS_OFFLINE", "HF_HUB_OFFLINE", "MASTER_ADDR",
    "OMP_NUM_THREADS", "RANK", "TOKENIZERS_PARALLELISM", "WORLD_SIZE",
)  # fmt: skip


def describe_machine() -> str:
    """Describes this machine for a bug report: versions, processor, accelerators and settings.

    Returns:
        The description as a Markdown list. It holds no path below the home folder, no name of a user and no token.

    >>> print(describe_machine().splitlines()[0])  # doctest: +ELLIPSIS
    - class_hf: ...
    """
    import torch  # takes seconds, and so does the next module

    from class_hf.utils.environment import processor_name

    installed, missing = _libraries()
    accelerator = "none"
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(device) for device in range(torch.cuda.device_count())]
        accelerator = f"{len(names)} x {names[0]}, CUDA {torch.version.cuda}"
    elif torch.accelerator.is_available():
        accelerator = str(torch.accelerator.current_accelerator())
    is_checkout = (Path(__file__).parents[3] / "pyproject.toml").is_file()
    settings = [f"{name}={os.environ[name]}" for name in _VARIABLES if name in os.environ]
    lines = {
        "class_hf": f"{__version__}, {'source checkout' if is_checkout else 'installed package'}",
        "Python": f"{platform.python_version()} on {platform.platform()}",
        "processor": f"{processor_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads of torch",
        "accelerator": accelerator,
        "libraries": ", ".join(installed),
        "not installed": ", ".join(missing) or "nothing",
        "Java (for the extra `names`)": _java(),
        "environment": ", ".join(settings) or "no settings",
    }
    return "\n".join(f"- {name}: {value}" for name, value in lines.items())


def _libraries() -> tuple[list[str], list[str]]:
    """The installed requirements with their versions, and the optional ones that are not installed."""
    try:
        requirements = requires("class-hf") or []
    except PackageNotFoundError:
        requirements = []
    names = {match[0].lower() for line in requirements if (match := re.match(r"[\w.-]+", line))}
    installed, missing = [], []
    for name in sorted(names - {"class-hf"}):
        try:
            installed.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    return installed, missing


def _java() -> str:
    """The version of Java, or none."""
    if shutil.which("java") is None:
        return "none"
    try:
        done = subprocess.run(["java", "-version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "cannot be started"
    return (done.stderr or done.stdout).strip().splitlines()[0] if (done.stderr or done.stdout).strip() else "unknown"
