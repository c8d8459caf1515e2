"""Push a trained model, or a scored data set, to the Hub in one commit.

    python recipes/push.py --model outputs/demo --repo_id ORG/NAME [--private] [--trust_remote_code_export]
    python recipes/push.py --dataset scored --repo_id ORG/NAME [--private]

Log in before, with `hf auth login` or HF_TOKEN. A push that fails leaves the repository as it was; give the same
command again.
"""

import argparse
import sys
from collections.abc import Sequence

import datasets
import transformers
from huggingface_hub.utils import disable_progress_bars

from class_hf.config.parsing import run_script
from class_hf.config.recipe_files import program
from class_hf.hub.push import push_dataset, push_model


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=program("push"),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", help="output folder of recipes/train.py")
    source.add_argument("--dataset", help="output folder of recipes/score.py")
    parser.add_argument("--repo_id", required=True, help="NAME or ORG/NAME; made if there is no such repository")
    parser.add_argument("--private", action="store_true", help="a new repository is private")
    parser.add_argument("--revision", help="branch to push to (default: main)")
    parser.add_argument(
        "--trust_remote_code_export",
        action="store_true",
        help="carry the model's code, so that AutoModel loads it without class_hf by trust_remote_code=True",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    args = parse(argv)
    if not sys.stderr.isatty():
        disable_progress_bars()
        datasets.disable_progress_bars()
        transformers.logging.disable_progress_bar()
    if args.dataset is not None:
        if args.trust_remote_code_export:
            raise ValueError("--trust_remote_code_export is for a model; a data set needs no code.")
        commit = push_dataset(args.dataset, args.repo_id, private=args.private or None, revision=args.revision)
        print(f"pushed to {commit.commit_url}\nload it with: load_dataset({commit.repo_url.repo_id!r})")
        return
    commit = push_model(
        args.model,
        args.repo_id,
        private=args.private or None,
        remote_code=args.trust_remote_code_export,
        revision=args.revision,
    )
    trust = ", trust_remote_code=True" if args.trust_remote_code_export else ""
    print(f"pushed to {commit.commit_url}")
    print(f"load it with: AutoModel.from_pretrained({commit.repo_url.repo_id!r}{trust})")


if __name__ == "__main__":
    run_script(main)
