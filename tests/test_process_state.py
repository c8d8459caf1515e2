"""No test sees what the tests before it changed."""

import logging
import os
import sys

import datasets
import pytest
import torch
import transformers
from process_state import SETTINGS, read_settings, restored_settings


def test_settings_are_restored_after_an_error(tmp_path):
    before = read_settings()
    with pytest.raises(RuntimeError), restored_settings():
        os.environ["CLASS_HF_LEFT_BY_A_TEST"] = "1"
        os.chdir(tmp_path)
        sys.argv = ["a command"]
        sys.path.insert(0, "a folder")
        transformers.logging.set_verbosity_error()
        datasets.logging.set_verbosity_debug()
        logging.getLogger("class_hf").setLevel(logging.DEBUG)
        logging.getLogger("class_hf").addHandler(logging.NullHandler())
        transformers.logging.disable_progress_bar()
        datasets.enable_progress_bar()
        torch.set_num_threads(torch.get_num_threads() + 1)
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.use_deterministic_algorithms(True)
        changed = read_settings()
        raise RuntimeError
    assert [name for name in SETTINGS if changed[name] == before[name]] == []
    assert read_settings() == before


def test_a_test_starts_with_the_same_random_numbers():
    assert torch.rand(1).item() == torch.rand(1, generator=torch.Generator().manual_seed(0)).item()
