import pytest
import torch

from class_hf import CurriculumTrainingArguments
from class_hf.training import arguments as module


@pytest.mark.parametrize("fast", (True, False))
def test_bf16_if_fast_asks_the_device(tmp_path, monkeypatch, fast):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: fast)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert CurriculumTrainingArguments(tmp_path, use_cpu=True, bf16_if_fast=True).bf16 is fast
    assert CurriculumTrainingArguments(tmp_path, use_cpu=True).bf16 is False
    assert CurriculumTrainingArguments(tmp_path, use_cpu=True, bf16=True).bf16 is True


def test_gpu_is_asked_where_there_is_one(monkeypatch):
    monkeypatch.setattr(module, "is_torch_bf16_gpu_available", lambda: True)
    assert module._has_fast_bf16(use_cpu=False)


def test_chunk_size_is_checked(tmp_path):
    with pytest.raises(ValueError, match="forward_chunk_size is 0; expected a number in"):
        CurriculumTrainingArguments(tmp_path, use_cpu=True, forward_chunk_size=0)
