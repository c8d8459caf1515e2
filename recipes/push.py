"""Push a trained model or a scored data set to the Hub in one commit.

    class-hf push --model outputs/demo --repo_id ORG/NAME [--private] [--trust_remote_code_export]
    class-hf push --dataset scored --repo_id ORG/NAME [--private]

Log in first, with `hf auth login` or HF_TOKEN. A push that fails leaves the repository unchanged. Run the same command
again to repeat it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from class_hf.config.command import CommandParser, asks_for_help, run_script
from class_hf.config.recipe_files import program

if not asks_for_help():  # these imports take seconds, and the help needs none of them
    from class_hf.hub.push import push_dataset, push_model


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = CommandParser(
        prog=program("push"),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", help="output folder of class-hf train")
    source.add_argument("--dataset", help="output folder of class-hf score")
    parser.add_argument("--repo_id", required=True, help="NAME or ORG/NAME; a missing repository is created")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument("--revision", help="branch to push to; a missing branch is created (default: main)")
    parser.add_argument(
        "--trust_remote_code_export",
        action="store_true",
        help="also push the model's code, so that trust_remote_code=True loads it without class_hf",
    )
    parser.add_log_arguments()
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Pushes, and prints how to load what was pushed."""
    args = parse(argv)
    if args.dataset is not None:
        if args.trust_remote_code_export:
            raise ValueError("--trust_remote_code_export is for a model; a data set has no code. Remove it.")
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
