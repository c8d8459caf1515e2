"""Embeds once, ranks both directions in one pass, and never holds a queries x pool matrix."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets

from class_hf.data.collator import TextMoleculeCollator
from class_hf.data.prepare import POOLED, TEXT_FEATURES
from class_hf.evaluation.embedding import embed, evaluating, logit_scale, side_columns
from class_hf.evaluation.metrics import bootstrap_intervals, metrics_by_quartile, retrieval_metrics
from class_hf.evaluation.query_bank import BankMethod, bank_penalties
from class_hf.evaluation.ranks import rank_in_pools
from class_hf.evaluation.rescoring import Pool, States, check_rescoring, rescore, score_pairs
from class_hf.utils.model_output import output_fields

DIRECTIONS = ("text_to_molecule", "molecule_to_text")
# Batches of captions whose token states are held at a time: some 250 MB at 300 numbers a token.
_HELD_CAPTIONS = 4

Ranks = dict[str, dict[str, tuple[np.ndarray, int]]]


def captions_of_other_splits(prepared: Mapping[str, Dataset], split: str) -> Dataset | None:
    """The captions of all splits but one: what the full pool of molecule to text adds. None if there is no other."""
    columns = (TEXT_FEATURES, POOLED["text"])
    others = [
        pairs.select_columns([column for column in columns if column in pairs.column_names])
        for name, pairs in prepared.items()
        if name != split
    ]
    return concatenate_datasets(others) if others else None


class RetrievalEvaluator:
    """Ranks every query of a split over whole candidate pools, in both directions (protocol: Text2Mol, section 4).

    Pools, always both and always named, for their numbers do not compare:

    - `full`: every molecule of the candidate pool; for molecule to text, every caption known;
    - `split`: the molecules (captions) of the queries' own split only.

    Args:
        pairs: prepared query pairs with `id`; `difficulty` if there is one gives the metrics by quartile.
        pool: prepared candidate molecules with `id`; must hold every pair's molecule. None: the pairs' own.
        captions: further prepared pairs whose captions are candidates of molecule to text in the full pool.
        processor: the model's processor, for this package's models.
        collator, columns: for any other backbone, in place of the processor: what makes a batch of rows, and which
            columns belong to `"text"` and `"molecule"`. Its `forward` must take either side alone.
        name: name of the split, for the report.
        pool_name: name of the pool in the report; another than `full` if `pool` is a part of the candidates.
        batch_size: rows embedded at once.
        block_size: rows and columns of a block of similarities; memory is its square.
        bootstrap_samples: resamples of the 95 % intervals; 0 leaves the intervals out.
        rescore_top_k: rank so many first candidates of each query again, by the model's `fine_scores`; None or 0 does
            not. The report then says so, and holds the numbers from before as well.
        query_bank: prepared training pairs, whose captions and molecules serve as queries that show which candidates
            are near to every query: [`query_bank_ranks`] then ranks without their advantage. They must not be tested
            on.
        bank_method: "softmax" or "nearest", see [`~class_hf.evaluation.query_bank.bank_penalties`]; the penalty is
            taken from a candidate's similarities.

    Raises:
        ValueError: if a pair's molecule is not in the pool, there are no pairs, or the bank holds some of them.
    """

    primary_metric = "mrr"
    sampled = False  # True if the pairs are a sample of their split, see `sample`

    def __init__(
        self,
        pairs: Dataset,
        pool: Dataset | None = None,
        captions: Dataset | None = None,
        *,
        processor: Any = None,
        collator: Callable[..., dict[str, torch.Tensor]] | None = None,
        columns: Mapping[str, Sequence[str]] | None = None,
        name: str = "validation",
        pool_name: str = "full",
        batch_size: int = 256,
        block_size: int = 512,
        bootstrap_samples: int = 1000,
        rescore_top_k: int | None = None,
        query_bank: Dataset | None = None,
        bank_method: BankMethod = "softmax",
    ):
        self.pairs = pairs
        self.pool = pairs if pool is None else pool
        self.captions = captions
        if (processor is None) == (collator is None):
            raise ValueError("pass either the processor of one of this package's models, or a collator with columns.")
        self.collator = TextMoleculeCollator(processor) if collator is None else collator
        self.columns = columns
        self.name = name
        self.pool_name = pool_name
        self.batch_size = batch_size
        self.block_size = block_size
        self.bootstrap_samples = bootstrap_samples
        if rescore_top_k is not None and rescore_top_k < 0:
            raise ValueError(f"rescore_top_k is {rescore_top_k}; expected a number of candidates, or None.")
        self.rescore_top_k = rescore_top_k or None
        self.difficulty = np.asarray(pairs["difficulty"][:]) if "difficulty" in pairs.column_names else None
        if len(pairs) == 0:
            raise ValueError(f"there are no pairs in {name!r} to evaluate on.")
        row_of = {one: row for row, one in enumerate(self.pool["id"][:])}
        ids = pairs["id"][:]
        missing = [one for one in ids if one not in row_of]
        if missing:
            raise ValueError(
                f"{len(missing)} of the {len(ids)} molecules of {name!r} are not in the pool of {len(row_of)}, "
                f"for instance id {missing[0]!r}. Every query's molecule must be a candidate."
            )
        self.gold = torch.tensor([row_of[one] for one in ids])
        self.query_bank = query_bank
        self.bank_method = bank_method
        if query_bank is not None and "id" in query_bank.column_names:
            tested = set(ids).intersection(query_bank["id"][:])
            if tested:
                raise ValueError(
                    f"{len(tested)} of the query bank's pairs are tested on, for instance id {min(tested)!r}. "
                    "A bank must hold other pairs, such as the training pairs."
                )

    @classmethod
    def sample(
        cls,
        pairs: Dataset,
        pool: Dataset,
        *,
        num_pairs: int,
        num_candidates: int | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> "RetrievalEvaluator":
        """An evaluator over a fixed sample of the pairs and of the pool, for cheap evaluation during training.

        The molecules of the sampled pairs are always among the candidates. The attribute `sampled` of the result is
        True if the sample holds fewer pairs than `pairs`.

        Args:
            pairs: prepared query pairs with `id`.
            pool: prepared candidate molecules with `id`.
            num_pairs: pairs to draw; all of them if there are fewer.
            num_candidates: *optional*, candidates to draw. Default: the complete pool.
            seed: *optional*, defaults to 0; seed of the sample.
            **kwargs: further arguments of [`RetrievalEvaluator`].

        Returns:
            The evaluator. Its `pool_name` is `full` with the complete pool, and `sample` otherwise.
        """
        generator = np.random.default_rng(seed)
        drawn = pairs.select(np.sort(generator.permutation(len(pairs))[:num_pairs]))
        wanted, ids = set(drawn["id"][:]), pool["id"][:]
        partners = [row for row, molecule_id in enumerate(ids) if molecule_id in wanted]
        others = [row for row in generator.permutation(len(ids)).tolist() if ids[row] not in wanted]
        taken = len(others) if num_candidates is None else max(0, num_candidates - len(partners))
        rows = sorted(partners + others[:taken])
        pool_name = "full" if len(rows) == len(pool) else "sample"
        evaluator = cls(drawn, pool.select(rows), pool_name=pool_name, **kwargs)
        evaluator.sampled = len(drawn) < len(pairs)
        return evaluator

    def embeddings(self, model: Any) -> dict[str, torch.Tensor]:
        """`text_embeds` (Q, D), `molecule_embeds` (P, D) of the pool, `gold` (Q,), `caption_embeds` (C, D).

        The last holds the captions of all further pairs, and is left out without any. With a query bank of M pairs,
        `bank_text_embeds` and `bank_molecule_embeds` (M, D) as well, and `logit_scale` (), the model's factor.
        """
        result = {
            "text_embeds": embed(model, self.pairs, self.collator, "text", self.batch_size, self.columns),
            "molecule_embeds": embed(model, self.pool, self.collator, "molecule", self.batch_size, self.columns),
            "gold": self.gold,
        }
        if self.captions is not None and len(self.captions):
            result["caption_embeds"] = embed(
                model, self.captions, self.collator, "text", self.batch_size, self.columns
            )
        if self.query_bank is not None:
            for side in ("text", "molecule"):
                result[f"bank_{side}_embeds"] = embed(
                    model, self.query_bank, self.collator, side, self.batch_size, self.columns
                )
            result["logit_scale"] = logit_scale(model, self.query_bank, self.collator, self.columns)
        return result

    def ranks(self, embeddings: dict[str, torch.Tensor]) -> Ranks:
        """(ranks, candidates) by pool and direction, from what [`embeddings`] gave."""
        return self._ranks(embeddings)

    def query_bank_ranks(self, embeddings: dict[str, torch.Tensor]) -> Ranks:
        """As [`ranks`], after query-bank normalisation (see [`~class_hf.evaluation.query_bank.bank_penalties`]).

        Raises:
            ValueError: if there is no query bank.
        """
        if self.query_bank is None:
            raise ValueError("there is no query bank; give the evaluator query_bank=, the prepared training pairs.")
        texts = embeddings["text_embeds"]
        if "caption_embeds" in embeddings:
            texts = torch.cat([texts, embeddings["caption_embeds"]])
        sides = {"text": (texts, "molecule"), "molecule": (embeddings["molecule_embeds"], "text")}
        return self._ranks(
            embeddings,
            **{
                f"{side}_penalties": bank_penalties(
                    candidates,
                    embeddings[f"bank_{queries}_embeds"],
                    self.bank_method,
                    float(embeddings["logit_scale"]),
                )
                for side, (candidates, queries) in sides.items()
            },
        )

    def _ranks(self, embeddings: dict[str, torch.Tensor], **penalties: torch.Tensor) -> Ranks:
        texts, molecules, gold = (embeddings[name] for name in ("text_embeds", "molecule_embeds", "gold"))
        further = embeddings.get("caption_embeds")
        ranks = rank_in_pools(texts, molecules, gold, further, self.block_size, **penalties)
        candidates = {
            "full": (len(molecules), len(texts) + (0 if further is None else len(further))),
            "split": (len(texts), len(texts)),
        }
        return {
            name: dict(zip(DIRECTIONS, zip(ranks[pool], candidates[pool], strict=True), strict=True))
            for name, pool in ((self.pool_name, "full"), ("split", "split"))
        }

    def rescored_ranks(self, model: Any, embeddings: dict[str, torch.Tensor], ranks: Ranks) -> Ranks:
        """What [`ranks`] gave, with each query's first `rescore_top_k` candidates in the order of their full score.

        States of tokens and the like exist a few batches at a time. Under several processes each one does all of it.

        Args:
            model: offers `fine_scores(texts, molecules, text_rows, molecule_rows)`, the scores (n,) of pairs, from
                the fields of its output for captions and for molecules.
            embeddings: what [`embeddings`] gave.
            ranks: what [`ranks`] gave.

        Raises:
            ValueError: if the model has no `fine_scores`, or there is no `rescore_top_k`.
        """
        check_rescoring(model)
        if self.rescore_top_k is None:
            raise ValueError("rescore_top_k is not set: nothing is to be ranked again.")
        texts, molecules, gold = (embeddings[name] for name in ("text_embeds", "molecule_embeds", "gold"))
        captions, own = self.pairs, torch.arange(len(texts))
        every = texts
        if self.captions is not None and "caption_embeds" in embeddings:
            names = side_columns(self.pairs, "text", self.columns)
            captions = concatenate_datasets([one.select_columns(names) for one in (self.pairs, self.captions)])
            every = torch.cat([texts, embeddings["caption_embeds"]])
        text_states = self._states(model, captions, "text")
        molecule_states = self._states(model, self.pool, "molecule")

        def swapped(held: States, streamed: States, held_rows: Any, streamed_rows: Any) -> torch.Tensor:
            return model.fine_scores(streamed, held, streamed_rows, held_rows)

        # The pools in the order of `ranks`: in full, and the split.
        to_molecule = [Pool(molecules, gold, torch.arange(len(molecules))), Pool(molecules[gold], own, gold)]
        to_text = [Pool(every, own, torch.arange(len(every))), Pool(texts, own, own)]
        arguments = {
            "text_to_molecule": (texts, own, to_molecule, (model.fine_scores, text_states, molecule_states)),
            "molecule_to_text": (molecules[gold], gold, to_text, (swapped, molecule_states, text_states)),
        }
        result: Ranks = {name: {} for name in ranks}
        with evaluating(model):
            for direction, (queries, rows, pools, members) in arguments.items():
                # Captions are what costs: each is encoded once a direction, whichever side it is on.
                held = _HELD_CAPTIONS if direction == "text_to_molecule" else None
                score = partial(score_pairs, *members, batch_size=self.batch_size, held_batches=held)
                before = [both[direction] for both in ranks.values()]
                plain = [values for values, _ in before]
                again = rescore(plain, queries, rows, pools, score, self.rescore_top_k, self.block_size)
                for name, values, (_, candidates) in zip(ranks, again, before, strict=True):
                    result[name][direction] = (values, candidates)
        return result

    def _states(self, model: Any, dataset: Dataset, side: str) -> Callable[[np.ndarray], States]:
        """Encodes rows of a data set: their numbers to the fields of the model's output that they fill."""
        device = next(model.parameters()).device
        rows_of = dataset.select_columns(side_columns(dataset, side, self.columns))

        def encode(rows: np.ndarray) -> States:
            batch = self.collator(list(rows_of.select(rows)))
            fields = output_fields(model(**{name: value.to(device) for name, value in batch.items()}))
            return {name: value for name, value in fields.items() if isinstance(value, torch.Tensor)}

        return encode

    def report(self, ranks: Ranks, before: Ranks | None = None, normalised: Ranks | None = None) -> dict[str, Any]:
        """`{"split", "pools": {pool: {direction: metrics}}}` from what [`ranks`] gave.

        Args:
            ranks: of the queries.
            before: the plain ranks, if `ranks` are re-scored ones: each direction then names its `rescored_top_k`, and
                `pools_before_rescoring` holds the plain metrics.
            normalised: what [`query_bank_ranks`] gave; their metrics stand apart, under `query_bank`.
        """
        result: dict[str, Any] = {"split": self.name, "pools": self._pools(ranks)}
        if before is not None:
            for both in result["pools"].values():
                for metrics in both.values():
                    metrics["rescored_top_k"] = self.rescore_top_k
            result["rescored_top_k"] = self.rescore_top_k
            result["pools_before_rescoring"] = self._pools(before)
        if normalised is not None:
            assert self.query_bank is not None
            result["query_bank"] = {
                "pairs": len(self.query_bank),
                "method": self.bank_method,
                "pools": self._pools(normalised),
            }
        return result

    def _pools(self, ranks: Ranks) -> dict[str, dict[str, dict[str, Any]]]:
        return {
            pool: {direction: self._metrics(*values) for direction, values in both.items()}
            for pool, both in ranks.items()
        }

    def _metrics(self, ranks: np.ndarray, candidates: int) -> dict[str, Any]:
        metrics: dict[str, Any] = dict(retrieval_metrics(ranks, candidates))
        if self.bootstrap_samples:
            metrics["interval_95"] = bootstrap_intervals(ranks, candidates, samples=self.bootstrap_samples)
        if self.difficulty is not None:
            metrics["by_difficulty_quartile"] = metrics_by_quartile(ranks, self.difficulty, candidates)
        return metrics

    def __call__(self, model: Any) -> dict[str, Any]:
        """Embeds, ranks, with `rescore_top_k` or a query bank ranks again, and reports; see [`report`]."""
        if self.rescore_top_k is not None:
            check_rescoring(model)
        embeddings = self.embeddings(model)
        ranks = self.ranks(embeddings)
        normalised = None if self.query_bank is None else self.query_bank_ranks(embeddings)
        if self.rescore_top_k is None:
            return self.report(ranks, normalised=normalised)
        return self.report(self.rescored_ranks(model, embeddings, ranks), before=ranks, normalised=normalised)
