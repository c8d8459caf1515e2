"""The state of the process that a test must leave as it was. `conftest.py` restores it after each test and doctest."""

import contextlib
import logging
import os
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import datasets
import numpy as np
import pytest
import torch
import transformers

_LOG = logging.getLogger("class_hf")
_NOT_OURS = "PYTEST_CURRENT_TEST"


class Setting(NamedTuple):
    """How a setting of the process is read, and how it is set."""

    read: Callable[[], Any]
    write: Callable[[Any], Any]


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != _NOT_OURS}


def _set_environment(variables: dict[str, str]) -> None:
    for name in _environment().keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)


def _folder() -> str | None:
    with contextlib.suppress(FileNotFoundError):  # it was removed
        return os.getcwd()
    return None


def _set_bars(shown: tuple[bool, bool]) -> None:
    for library, is_shown in zip((datasets, transformers.logging), shown, strict=True):
        (library.enable_progress_bar if is_shown else library.disable_progress_bar)()


SETTINGS: dict[str, Setting] = {
    "environment": Setting(_environment, _set_environment),
    "current folder": Setting(_folder, os.chdir),
    "sys.argv": Setting(lambda: list(sys.argv), lambda words: setattr(sys, "argv", words)),
    "sys.path": Setting(lambda: list(sys.path), lambda folders: setattr(sys, "path", folders)),
    "log level of transformers": Setting(transformers.logging.get_verbosity, transformers.logging.set_verbosity),
    "log level of datasets": Setting(datasets.logging.get_verbosity, datasets.logging.set_verbosity),
    "log level of class_hf": Setting(lambda: _LOG.level, _LOG.setLevel),
    "log handlers of class_hf": Setting(lambda: list(_LOG.handlers), lambda old: setattr(_LOG, "handlers", old)),
    "progress bars": Setting(
        lambda: (not datasets.are_progress_bars_disabled(), transformers.logging.is_progress_bar_enabled()), _set_bars
    ),
    "threads of torch": Setting(torch.get_num_threads, torch.set_num_threads),
    "default dtype": Setting(torch.get_default_dtype, torch.set_default_dtype),
    "gradients": Setting(torch.is_grad_enabled, torch.set_grad_enabled),
    "deterministic algorithms": Setting(
        lambda: (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        lambda flags: torch.use_deterministic_algorithms(flags[0], warn_only=flags[1]),
    ),
}


def seed_generators() -> None:
    """Seeds the global generators, so that a test sees the same random numbers in any order of the tests."""
    random.seed(0)
    np.random.seed(0)
    torch.default_generator.manual_seed(0)  # `torch.manual_seed` also walks the stack for CUDA, which takes longer


def read_settings() -> dict[str, Any]:
    return {name: setting.read() for name, setting in SETTINGS.items()}


@contextlib.contextmanager
def restored_settings() -> Iterator[None]:
    """Restores the settings after the block."""
    before = read_settings()
    try:
        yield
    finally:
        for name, setting in SETTINGS.items():
            if setting.read() != before[name]:
                setting.write(before[name])


@pytest.fixture(autouse=True)
def process_state() -> Iterator[None]:
    """Seeds the generators before a test, and restores the settings after it. This takes 0.2 milliseconds."""
    with restored_settings():
        seed_generators()
        yield
