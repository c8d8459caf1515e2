"""benchmarks/gpu.py without a GPU: its code runs at small sizes, and without a GPU it skips."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks read memory from /proc")


@pytest.fixture
def gpu(monkeypatch, pairs):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = importlib.import_module("gpu")
    monkeypatch.setattr(module.common, "load", lambda data_dir: {"train": pairs})  # the demo takes seconds to make
    return module


@pytest.fixture
def kernels(gpu):
    return sys.modules["gpu_kernels"]


@pytest.fixture
def training(gpu):
    return sys.modules["gpu_training"]


@pytest.fixture
def run(gpu, monkeypatch, tmp_path):
    """Runs the script; its exit status and the file that it may write."""

    def run(*words):
        output = tmp_path / "gpu.json"
        monkeypatch.setattr(sys, "argv", ["gpu.py", *words, "--output", str(output)])
        try:
            gpu.main()
        except SystemExit as end:
            return end.code or 0, output
        return 0, output

    return run


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_writes_nothing(run, capsys):
    code, output = run()
    assert code == 0 and not output.exists()
    assert capsys.readouterr().out == "benchmarks/gpu.py: skipped, there is no GPU.\n"


def test_full_sizes_are_refused_on_a_cpu(run):
    code, output = run("--device", "cpu")
    assert "--tiny" in code and not output.exists()


def test_every_section_runs_on_a_cpu_at_tiny_sizes(run):
    code, output = run("--device", "cpu", "--tiny", "--peak_tflops", "1")
    assert code == 0
    rows = json.loads(output.read_text())["results"]
    assert not [row for row in rows if "error" in row]
    measured = {row["requirement"]: row for row in rows}
    assert all(row["met"] is None and row["measured"] >= 0 for row in rows)  # held to nothing at these sizes
    errors = [row["measured"] for name, row in measured.items() if "largest error" in name or "gradients" in name]
    assert len(errors) == 2 and max(errors) < 1e-5
    (training,) = (row["details"] for name, row in measured.items() if "utilisation" in name)
    arms = training["arms"]
    assert [(arm["tower_chunk_size"], arm["attention"], arm["forward_chunk_size"]) for arm in arms[:2]] == [
        (4, "sdpa", None),
        (8, "sdpa", None),
    ]
    assert [(arm["attention"], arm["forward_chunk_size"]) for arm in arms[2:]] == [("eager", None), ("sdpa", 4)]
    assert all(0.0 < arm["busy"] <= 1.0 and arm["tokens_per_second"] > 0 for arm in arms)


def test_a_failing_section_is_reported_and_loses_no_other(kernels, training, run, monkeypatch):
    def out_of_memory(*args, **kwargs):
        raise torch.OutOfMemoryError("none is left")

    monkeypatch.setattr(kernels, "nearest", out_of_memory)
    monkeypatch.setattr(training, "train", out_of_memory)
    code, output = run("--device", "cpu", "--tiny")
    assert code == 1
    rows = json.loads(output.read_text())["results"]
    failed = {row["requirement"]: row["error"] for row in rows if "error" in row}
    assert list(failed) == ["6 exact difficulty on the GPU", "GPU, training"]
    assert all("none is left" in error for error in failed.values())
    assert len([row for row in rows if row["requirement"].startswith("3 loss")]) == 6


def test_a_dense_loss_that_does_not_fit_leaves_the_tiled_numbers(gpu, kernels, monkeypatch):
    step = kernels.loss_memory.step

    def small(name, inputs):
        if name == "dense" and len(inputs[0]) > 64:
            raise torch.OutOfMemoryError("none is left")
        return step(name, inputs)

    monkeypatch.setattr(kernels.loss_memory, "step", small)
    rows = kernels.loss_rows(gpu.TINY, torch.device("cpu"))
    assert [row["met"] for row in rows] == [None, None, True, True, None, None]
    assert all("does not fit" in row["skipped"] and "tiled" in row["details"]["seconds"] for row in rows[4:])


def test_kernels_on_several_streams_are_counted_once(training):
    assert training.covered(np.array([[5.0, 6.0], [0.0, 4.0], [1.0, 2.0], [3.0, 4.5]])) == 5.5


def test_useful_operations_are_those_of_the_matrix_products(training):
    config = BertConfig(hidden_size=4, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8, vocab_size=9)
    tower = BertModel(config, add_pooling_layer=False)
    weights = 2 * (4 * 4 * 4 + 2 * 4 * 8)
    attention = 3 * 2 * 2 * (2 * 4)  # forward and twice backward; 2 layers; 2 products of 2 x width operations
    lengths = np.array([3.0, 5.0])
    assert training.useful_flops(tower, lengths) == 6 * weights * 8 + attention * (9 + 25)


def test_the_peak_is_found_by_the_name_of_the_device(training, monkeypatch):
    names = {"NVIDIA H200": 989, "NVIDIA H100 PCIe": 756, "NVIDIA GH200 480GB": 989, "NVIDIA A10G": None}
    for name, peak in names.items():
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda name=name: name)
        assert training.peak_of(torch.device("cuda")) == peak
