"""The arguments of commands that fit a scorer of difficulty."""

import argparse
from typing import Literal

from class_hf.config.arguments import DIFFICULTY_NAMES
from class_hf.utils.numbers import non_negative_integer, number, positive_integer, share


def add_scorer_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of [`~class_hf.difficulty.scorer.DifficultyScorer`].

    >>> parser = argparse.ArgumentParser()
    >>> add_scorer_arguments(parser)
    >>> parser.parse_args(["--definition", "complexity,alignment"]).definition
    ['complexity', 'alignment']
    """
    parser.add_argument(
        "--definition",
        type=lambda names: names.split(","),
        default=["alignment"],
        help=f"one or several, separated by commas, of {', '.join(DIFFICULTY_NAMES)}, or your own as "
        "package.module:Name (default: alignment)",
    )
    parser.add_argument(
        "--combination",
        default="mean",
        help="how text and molecule are combined: mean, max, product, text or molecule (default: %(default)s)",
    )
    parser.add_argument(
        "--text_weight", type=share, default=0.5, help="weight of the text in the mean, 0 to 1 (default: %(default)s)"
    )
    parser.add_argument(
        "--neighbours",
        type=_neighbours,
        default=8,
        help="of confusability: nearest pairs to average over, or all for the fast mean over all pairs "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--text_similarity",
        default="tfidf",
        help="of confusability: how captions are compared, tfidf, or hashed, which is faster (default: %(default)s)",
    )
    parser.add_argument(
        "--exact_up_to",
        type=non_negative_integer,
        default=100_000,
        help="of confusability: with more training pairs, faiss finds the neighbours; of density: pairs are compared "
        "with a sample of so many (default: %(default)s)",
    )
    parser.add_argument(
        "--density_quantile",
        type=number,
        default=0.99,
        help="of density: share of the similarities that lie below the threshold (default: %(default)s)",
    )
    parser.add_argument(
        "--density_text_model",
        metavar="MODEL",
        help="of density: sentence encoder of the captions, a folder, a Hub id or package:NAME (default: TF-IDF "
        "vectors)",
    )
    parser.add_argument(
        "--density_mol2vec",
        metavar="FILE",
        help="of density: mol2vec vectors, token_embedding_dict.npy or an .npz file (default: Morgan fingerprints)",
    )
    parser.add_argument(
        "--seed",
        type=non_negative_integer,
        default=0,
        help="of alignment: seed of its reference models (default: %(default)s)",
    )
    parser.add_argument(
        "--reference_steps",
        type=positive_integer,
        default=150,
        help="of alignment: training steps of each of its two reference models (default: %(default)s)",
    )


def _neighbours(text: str) -> int | Literal["all"]:
    """The value of --neighbours: a number, or all."""
    return "all" if text == "all" else positive_integer(text)
