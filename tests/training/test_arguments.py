"""Training arguments: each number has a range, and what has no effect is refused."""

import math
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedDataParallelKwargs, DistributedType

from class_hf import CurriculumTrainingArguments
from class_hf.training import arguments as module
from class_hf.training.argument_checks import RANGES, UNUSED
from class_hf.training.gradient_compression import check_compression, compress_gradients


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


@pytest.mark.parametrize("name", [*RANGES, "max_steps"])
def test_numbers_out_of_range_are_refused_by_name_value_and_range(tmp_path, name):
    integer = CurriculumTrainingArguments.__dataclass_fields__[name].type in (int, "int", int | None)
    wrong = [-3, 1e30 if name not in ("max_grad_norm",) else math.inf, *([] if integer else [math.nan, math.inf]), "x"]
    for value in wrong:
        with pytest.raises(ValueError, match=rf"^{name} is .*; expected a number in [\[(]"):
            CurriculumTrainingArguments(tmp_path, use_cpu=True, **{name: value})


@pytest.mark.parametrize("name", UNUSED)
def test_arguments_without_effect_are_refused(tmp_path, name):
    value = {"label_names": ["labels"], "include_for_metrics": ["loss"]}.get(name, 1)
    with pytest.raises(ValueError, match=f"^{name} is .*, which has no effect here"):
        CurriculumTrainingArguments(tmp_path, use_cpu=True, **{name: value})


def test_fp16_needs_a_gpu(tmp_path):
    with pytest.raises(ValueError, match="fp16 is True, but needs a GPU"):
        CurriculumTrainingArguments(tmp_path, use_cpu=True, fp16=True)


def test_a_compression_of_gradients_without_effect_is_refused(tmp_path):
    with pytest.raises(ValueError, match="ddp_gradient_compression is 'fp8'; expected one of fp16, bf16"):
        CurriculumTrainingArguments(tmp_path, use_cpu=True, ddp_gradient_compression="fp8")
    with pytest.raises(ValueError, match="ddp_gradient_compression is 'fp16', but this run has one process"):
        CurriculumTrainingArguments(tmp_path, use_cpu=True, ddp_gradient_compression="fp16")
    on_cpus, on_gpus = (SimpleNamespace(world_size=2, device=torch.device(name)) for name in ("cpu", "cuda"))
    with pytest.raises(ValueError, match="is 'bf16', which DDP exchanges between GPUs only .* Set it to fp16"):
        check_compression(on_cpus, "bf16")
    for args, kind in ((on_cpus, "fp16"), (on_gpus, "fp16"), (on_gpus, "bf16")):
        check_compression(args, kind)
    with pytest.raises(ValueError, match="is 'bf16', which has no effect with FSDP. Leave it out, or use DDP"):
        compress_gradients(SimpleNamespace(distributed_type=DistributedType.FSDP), "bf16")


@pytest.mark.parametrize("kind", ["fp16", "bf16"])
def test_ddp_gets_its_own_hook(kind):
    accelerator = SimpleNamespace(
        distributed_type=DistributedType.MULTI_GPU, ddp_handler=DistributedDataParallelKwargs()
    )
    compress_gradients(accelerator, kind)
    hooks = []
    model = SimpleNamespace(register_comm_hook=lambda state, hook: hooks.append((state, hook.__name__)))
    accelerator.ddp_handler.register_comm_hook(model)
    assert hooks == [(None, f"{kind}_compress_hook")]
