"""Export a trained model: for sentence-transformers, for ONNX Runtime, or with its adapter merged into it.

class-hf export --model O --output_dir X --format sentence-transformers
class-hf export --model O --output_dir X --format onnx
class-hf export --model O/adapter --output_dir X --format merged
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from class_hf.config.command import CommandParser, asks_for_help, run_script
from class_hf.config.recipe_files import program

if not asks_for_help():  # these imports take seconds, and the help needs none of them
    from transformers import AutoProcessor
    from transformers.utils.peft_utils import find_adapter_config_file

    from class_hf.backbones.adapters import load_adapter, merge_adapter
    from class_hf.hub.contents import remove_local_paths
    from class_hf.hub.loading import load_pretrained, model_errors
    from class_hf.hub.onnx_export import save_onnx
    from class_hf.hub.sentence_transformers import save_sentence_transformer
    from class_hf.utils.files import atomic_folder


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = CommandParser(prog=program("export"), description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder or Hub id of a trained dual encoder, or of an adapter")
    parser.add_argument("--subfolder", help="subfolder of --model, such as adapter")
    parser.add_argument("--revision", help="revision of --model on the Hub")
    parser.add_argument("--base", help="dual encoder that the adapter belongs to (default: the one that it names)")
    parser.add_argument("--output_dir", required=True, help="new folder for the export")
    parser.add_argument(
        "--format",
        required=True,
        choices=("sentence-transformers", "onnx", "merged"),
        help="`sentence-transformers`: the text tower, whose `encode` equals the text vectors of the model; `onnx`: "
        "each tower for ONNX Runtime, compared with torch; `merged`: the complete model with its adapter merged in",
    )
    parser.add_log_arguments()
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Loads the model, and writes the export."""
    args = parse(argv)
    model, processor = load(args)
    if args.format == "merged":
        with atomic_folder(args.output_dir) as folder:
            model.save_pretrained(folder)
            processor.save_pretrained(folder)
            remove_local_paths(folder)
    elif args.format == "onnx":
        for side, difference in save_onnx(model, processor, args.output_dir).items():
            print(f"{side}.onnx: largest difference from torch {difference:.1e}")
    else:
        save_sentence_transformer(model, processor, args.output_dir)
    print(f"written to {args.output_dir}")


def load(args: argparse.Namespace) -> tuple[Any, Any]:
    """Loads the plain model, with an adapter merged into it, and its processor."""
    place = {"subfolder": args.subfolder or "", "revision": args.revision}
    with model_errors("--model", args.model):
        adapted = find_adapter_config_file(args.model, **place) is not None
    if not adapted and args.base is not None:
        raise ValueError(f"--base is for an adapter, but {args.model!r} holds none. Remove --base.")
    if not adapted and args.format == "merged":
        raise ValueError(f"{args.model!r} holds no adapter to merge; it is a complete model, or none.")
    path = Path(args.model) / place["subfolder"]
    if not adapted and path.is_dir() and not (path / "config.json").is_file():
        raise ValueError(f"--model {str(path)!r} holds neither a model (config.json) nor an adapter.")
    if not adapted:
        model, processor = load_pretrained(args.model, **place)
        return model.eval(), processor
    with model_errors("--model", args.model):
        model = merge_adapter(load_adapter(args.model, args.base, **place))
        return model.eval(), AutoProcessor.from_pretrained(args.model, **place)


if __name__ == "__main__":
    run_script(main)
