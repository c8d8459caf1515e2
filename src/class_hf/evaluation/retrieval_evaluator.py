"""Embeds each side once and ranks both directions in one pass, without a matrix of queries x candidates."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets

from class_hf.data.collator import TextMoleculeCollator
from class_hf.evaluation.embedding import Collator, embed, evaluating, logit_scale, side_columns
from class_hf.evaluation.evaluated_rows import find_gold, prepared_rows
from class_hf.evaluation.metrics import bootstrap_intervals, metrics_by_quartile, retrieval_metrics
from class_hf.evaluation.query_bank import check_bank_captions, penalties_by_side
from class_hf.evaluation.ranks import rank_in_pools
from class_hf.evaluation.rescoring import Pool, States, check_rescoring, rescore, score_pairs
from class_hf.evaluation.settings import EvaluationSettings
from class_hf.utils.model_output import output_fields
from class_hf.utils.numbers import positive_integer
from class_hf.utils.protocols import Processor, RetrievalModel

DIRECTIONS = ("text_to_molecule", "molecule_to_text")
# Batches of captions whose token states are in memory at a time: about 250 MB at 300 numbers per token.
_HELD_CAPTIONS = 4

Ranks = dict[str, dict[str, tuple[np.ndarray, int]]]


class RetrievalEvaluator:
    """Ranks every query of a split over complete candidate pools, in both directions (Text2Mol, section 4).

    Every report names two pools. Metrics of different pools are not comparable.

    - `full`: from text to molecule, all molecules of `pool`; from molecule to text, the evaluated captions and those
      of `captions`.
    - `split`: only the molecules (captions) of the evaluated split.

    Args:
        pairs (`Dataset`): prepared query pairs with `id`. With a column `difficulty`, the report has the metrics by
            difficulty quartile.
        pool (`Dataset`, *optional*): prepared candidate molecules with `id`. It must hold the molecule of every pair.
            Default: the molecules of the pairs.
        captions (`Dataset`, *optional*): further prepared captions, which are candidates of molecule to text in the
            full pool. See [`captions_of_other_splits`].
        processor ([`TextMoleculeProcessor`], *optional*): the processor of a model of this package.
        collator (`Callable`, *optional*): for any other model, in place of the processor: makes a batch of rows. The
            `forward` of the model must accept captions alone and molecules alone.
        columns (`Mapping`, *optional*): with a collator, the columns of `"text"` and of `"molecule"`.
        query_bank (`Dataset`, *optional*): prepared training pairs for query-bank normalisation. The report then also
            has the metrics of [`query_bank_ranks`]. It must hold no evaluated pair.
        bank_captions (`Dataset`, *optional*): prepared captions without a molecule, for a query bank that also has
            these. It must hold no evaluated caption.
        settings ([`EvaluationSettings`], *optional*): batch size, bootstrap, re-ranking and names.
        **options: fields of [`EvaluationSettings`]. They override `settings`.

    Raises:
        ValueError: if a pair's molecule is not in the pool, there are no pairs, rows are not prepared by the
            processor, the query bank holds an evaluated pair, or an option is unknown.

    Example:

    ```python
    data = load_demo()
    processor = AutoProcessor.from_pretrained("outputs/demo")
    evaluator = RetrievalEvaluator(
        prepare_pairs(data["validation"], processor), prepare_molecules(data["pool"], processor), processor=processor
    )
    evaluator(AutoModel.from_pretrained("outputs/demo"))["pools"]["full"]["text_to_molecule"]["mrr"]
    ```
    """

    primary_metric = "mrr"
    # Whether the pairs are only a sample of a split.
    sampled = False

    def __init__(
        self,
        pairs: Dataset,
        pool: Dataset | None = None,
        captions: Dataset | None = None,
        *,
        processor: Processor | None = None,
        collator: Collator | None = None,
        columns: Mapping[str, Sequence[str]] | None = None,
        query_bank: Dataset | None = None,
        bank_captions: Dataset | None = None,
        settings: EvaluationSettings | None = None,
        **options: Any,
    ):
        self.settings = (settings or EvaluationSettings()).with_options(options)
        if processor is not None:
            pairs = prepared_rows(pairs, "pairs", ("text", "molecule"), processor)
            pool = None if pool is None else prepared_rows(pool, "pool", ("molecule",), processor)
            captions = None if captions is None else prepared_rows(captions, "captions", ("text",), processor)
        self.pairs = pairs
        self.pool = pairs if pool is None else pool
        self.captions = captions
        if processor is not None and collator is None:
            self.collator: Collator = TextMoleculeCollator(processor)
        elif processor is None and collator is not None:
            self.collator = collator
        else:
            raise ValueError("pass either the processor of one of this package's models, or a collator with columns.")
        self.columns = columns
        self.difficulty = np.asarray(pairs["difficulty"][:]) if "difficulty" in pairs.column_names else None
        if len(pairs) == 0:
            raise ValueError(f"there are no pairs in {self.name!r} to evaluate on.")
        self.gold = find_gold(pairs, self.pool, self.name)
        self.query_bank = query_bank
        self.bank_captions = bank_captions
        if query_bank is not None and "id" in query_bank.column_names:
            evaluated = set(pairs["id"][:]).intersection(query_bank["id"][:])
            if evaluated:
                raise ValueError(
                    f"{len(evaluated)} of the query bank's pairs are evaluated, for instance id {min(evaluated)!r}. "
                    "A bank must hold other pairs, such as the training pairs."
                )
        if bank_captions is not None:
            check_bank_captions(bank_captions, query_bank, pairs)

    @classmethod
    def sample(
        cls,
        pairs: Dataset,
        pool: Dataset,
        *,
        num_pairs: int,
        num_candidates: int | None = None,
        seed: int = 0,
        **options: Any,
    ) -> "RetrievalEvaluator":
        """Makes an evaluator over a fixed sample of the pairs and of the pool, for cheap evaluation during training.

        The molecules of the sampled pairs are always among the candidates. The attribute `sampled` of the result is
        True if the sample holds fewer pairs than `pairs`.

        Args:
            pairs (`Dataset`): prepared query pairs with `id`.
            pool (`Dataset`): prepared candidate molecules with `id`.
            num_pairs (`int`): number of pairs to draw. If there are fewer pairs, all are taken.
            num_candidates (`int`, *optional*): number of candidates to draw. Default: the complete pool.
            seed (`int`, *optional*, defaults to 0): seed of the sample.
            **options: further arguments of [`RetrievalEvaluator`].

        Returns:
            The evaluator. Its `pool_name` is `full` with the complete pool, and `sample` otherwise.
        """
        positive_integer.check("num_pairs", num_pairs)
        positive_integer.check("num_candidates", num_candidates)
        generator = np.random.default_rng(seed)
        drawn = pairs.select(np.sort(generator.permutation(len(pairs))[:num_pairs]))
        wanted, ids = set(drawn["id"][:]), pool["id"][:]
        partners = [row for row, molecule_id in enumerate(ids) if molecule_id in wanted]
        others = [row for row in generator.permutation(len(ids)).tolist() if ids[row] not in wanted]
        taken = len(others) if num_candidates is None else max(0, num_candidates - len(partners))
        rows = sorted(partners + others[:taken])
        pool_name = "full" if len(rows) == len(pool) else "sample"
        evaluator = cls(drawn, pool.select(rows), pool_name=pool_name, **options)
        evaluator.sampled = len(drawn) < len(pairs)
        return evaluator

    @property
    def name(self) -> str:
        """Name of the split in the report."""
        return self.settings.name

    @property
    def pool_name(self) -> str:
        """Name of the pool in the report."""
        return self.settings.pool_name

    @property
    def rescore_top_k(self) -> int | None:
        """Number of re-ranked candidates per query, or None."""
        return self.settings.rescore_top_k

    def embeddings(self, model: RetrievalModel) -> dict[str, torch.Tensor]:
        """Embeds everything that is ranked.

        Args:
            model ([`~class_hf.utils.protocols.RetrievalModel`]): a dual encoder.

        Returns:
            - `text_embeds` (Q, D) and `gold` (Q,) of the pairs, `molecule_embeds` (P, D) of the pool;
            - with further captions, `caption_embeds` (C, D);
            - with a query bank of M pairs, `bank_text_embeds` (M, D), `bank_molecule_embeds` (M, D) and
              `logit_scale` (); with captions without a molecule, `bank_caption_embeds` (B, D).
        """

        def embedded(rows: Dataset, side: str) -> torch.Tensor:
            return embed(model, rows, self.collator, side, self.settings.batch_size, self.columns)

        result = {
            "text_embeds": embedded(self.pairs, "text"),
            "molecule_embeds": embedded(self.pool, "molecule"),
            "gold": self.gold,
        }
        if self.captions is not None and len(self.captions):
            result["caption_embeds"] = embedded(self.captions, "text")
        if self.query_bank is not None:
            for side in ("text", "molecule"):
                result[f"bank_{side}_embeds"] = embedded(self.query_bank, side)
            if self.bank_captions is not None:
                result["bank_caption_embeds"] = embedded(self.bank_captions, "text")
            result["logit_scale"] = logit_scale(model, self.query_bank, self.collator, self.columns)
        return result

    def ranks(self, embeddings: Mapping[str, torch.Tensor]) -> Ranks:
        """Ranks the true candidate of every query, by cosine.

        Args:
            embeddings (`Mapping`): the result of [`embeddings`].

        Returns:
            By pool and direction, the ranks (Q,) and the number of candidates.
        """
        return self._ranks(embeddings)

    def query_bank_ranks(self, embeddings: Mapping[str, torch.Tensor], with_captions: bool = False) -> Ranks:
        """Ranks as [`ranks`], after query-bank normalisation ([`~class_hf.evaluation.query_bank.bank_penalties`]).

        Args:
            embeddings (`Mapping`): the result of [`embeddings`].
            with_captions (`bool`, *optional*, defaults to `False`): the bank also has `bank_captions`.

        Raises:
            ValueError: if there is no query bank, or it lacks these captions.
        """
        if self.query_bank is None:
            raise ValueError("there is no query bank; give the evaluator query_bank=, the prepared training pairs.")
        if with_captions and self.bank_captions is None:
            raise ValueError("the bank has no captions without a molecule; give the evaluator bank_captions=.")
        return self._ranks(embeddings, **penalties_by_side(embeddings, self.settings.bank_method, with_captions))

    def _ranks(self, embeddings: Mapping[str, torch.Tensor], **penalties: torch.Tensor) -> Ranks:
        """The ranks by cosine minus penalties."""
        texts, molecules, gold = (embeddings[name] for name in ("text_embeds", "molecule_embeds", "gold"))
        further = embeddings.get("caption_embeds")
        ranks = rank_in_pools(texts, molecules, gold, further, self.settings.block_size, **penalties)
        candidates = {
            "full": (len(molecules), len(texts) + (0 if further is None else len(further))),
            "split": (len(texts), len(texts)),
        }
        return {
            name: dict(zip(DIRECTIONS, zip(ranks[pool], candidates[pool], strict=True), strict=True))
            for name, pool in ((self.pool_name, "full"), ("split", "split"))
        }

    def rescored_ranks(self, model: Any, embeddings: Mapping[str, torch.Tensor], ranks: Ranks) -> Ranks:
        """Re-ranks the first `rescore_top_k` candidates of each query by the pair score of the model.

        The token states of only a few batches are in memory. With several processes, each process does all the work.

        Args:
            model: a model with `fine_scores(texts, molecules, text_rows, molecule_rows)`, which returns the scores
                (n,) of pairs from the fields of its output for captions and for molecules.
            embeddings (`Mapping`): the result of [`embeddings`].
            ranks (`Ranks`): the result of [`ranks`].

        Returns:
            The ranks, in the form of [`ranks`].

        Raises:
            ValueError: if the model has no `fine_scores`, or `rescore_top_k` is not set.
        """
        check_rescoring(model)
        if self.rescore_top_k is None:
            raise ValueError("rescore_top_k is not set; give the evaluator the number of candidates to re-rank.")
        texts, molecules, gold = (embeddings[name] for name in ("text_embeds", "molecule_embeds", "gold"))
        captions, query_rows = self.pairs, torch.arange(len(texts))
        all_texts = texts
        if self.captions is not None and "caption_embeds" in embeddings:
            names = side_columns(self.pairs, "text", self.columns)
            captions = concatenate_datasets([rows.select_columns(names) for rows in (self.pairs, self.captions)])
            all_texts = torch.cat([texts, embeddings["caption_embeds"]])
        text_states = self._states(model, captions, "text")
        molecule_states = self._states(model, self.pool, "molecule")

        def swapped(held: States, streamed: States, held_rows: Any, streamed_rows: Any) -> torch.Tensor:
            return model.fine_scores(streamed, held, streamed_rows, held_rows)

        # The pools in the order of `ranks`: full, then split.
        to_molecule = [
            Pool(molecules, gold, torch.arange(len(molecules))),
            Pool(molecules[gold], query_rows, gold),
        ]
        to_text = [
            Pool(all_texts, query_rows, torch.arange(len(all_texts))),
            Pool(texts, query_rows, query_rows),
        ]
        arguments = {
            "text_to_molecule": (texts, query_rows, to_molecule, (model.fine_scores, text_states, molecule_states)),
            "molecule_to_text": (molecules[gold], gold, to_text, (swapped, molecule_states, text_states)),
        }
        result: Ranks = {name: {} for name in ranks}
        with evaluating(model):
            for direction, (queries, rows, pools, members) in arguments.items():
                # Captions are expensive: in each direction, every caption is encoded once.
                held = _HELD_CAPTIONS if direction == "text_to_molecule" else None
                score = partial(score_pairs, *members, batch_size=self.settings.batch_size, held_batches=held)
                before = [directions[direction] for directions in ranks.values()]
                plain = [values for values, _ in before]
                after = rescore(plain, queries, rows, pools, score, self.rescore_top_k, self.settings.block_size)
                for name, values, (_, candidates) in zip(ranks, after, before, strict=True):
                    result[name][direction] = (values, candidates)
        return result

    def _states(self, model: RetrievalModel, dataset: Dataset, side: str) -> Callable[[np.ndarray], States]:
        """A function that encodes rows of a data set to the fields of the model's output."""
        device = next(model.parameters()).device
        rows_of_side = dataset.select_columns(side_columns(dataset, side, self.columns))

        def encode(rows: np.ndarray) -> States:
            batch = self.collator(list(rows_of_side.select(rows)))
            outputs = output_fields(model(**{name: value.to(device) for name, value in batch.items()}))
            return {name: value for name, value in outputs.items() if isinstance(value, torch.Tensor)}

        return encode

    def report(
        self,
        ranks: Ranks,
        before: Ranks | None = None,
        normalised: Ranks | None = None,
        with_captions: Ranks | None = None,
    ) -> dict[str, Any]:
        """Computes the metrics of all pools and directions.

        Args:
            ranks (`Ranks`): the result of [`ranks`] or of [`rescored_ranks`].
            before (`Ranks`, *optional*): the ranks before re-ranking, if `ranks` are re-ranked. Their metrics are in
                `pools_before_rescoring`, and each direction has `rescored_top_k`.
            normalised (`Ranks`, *optional*): the result of [`query_bank_ranks`]. Their metrics are in `query_bank`.
            with_captions (`Ranks`, *optional*): the same with the captions without a molecule. Their metrics are in
                `query_bank_with_captions`.

        Returns:
            `{"split": name, "pools": {pool: {direction: metrics}}, ...}`.
        """
        result: dict[str, Any] = {"split": self.name, "pools": self._pools(ranks)}
        if before is not None:
            for directions in result["pools"].values():
                for metrics in directions.values():
                    metrics["rescored_top_k"] = self.rescore_top_k
            result["rescored_top_k"] = self.rescore_top_k
            result["pools_before_rescoring"] = self._pools(before)
        for name, bank_ranks in (("query_bank", normalised), ("query_bank_with_captions", with_captions)):
            if bank_ranks is None:
                continue
            assert self.query_bank is not None
            result[name] = {
                "pairs": len(self.query_bank),
                "captions": len(self.bank_captions or ()) if bank_ranks is with_captions else 0,
                "method": self.settings.bank_method,
                "pools": self._pools(bank_ranks),
            }
        return result

    def _pools(self, ranks: Ranks) -> dict[str, dict[str, dict[str, Any]]]:
        """The metrics by pool and direction."""
        return {
            pool: {direction: self._metrics(*values) for direction, values in directions.items()}
            for pool, directions in ranks.items()
        }

    def _metrics(self, ranks: np.ndarray, candidates: int) -> dict[str, Any]:
        """The metrics of one pool and direction."""
        metrics: dict[str, Any] = dict(retrieval_metrics(ranks, candidates))
        if self.settings.bootstrap_samples:
            metrics["interval_95"] = bootstrap_intervals(ranks, candidates, samples=self.settings.bootstrap_samples)
        if self.difficulty is not None:
            metrics["by_difficulty_quartile"] = metrics_by_quartile(ranks, self.difficulty, candidates)
        return metrics

    def __call__(self, model: RetrievalModel) -> dict[str, Any]:
        """Embeds, ranks, and reports.

        Args:
            model ([`~class_hf.utils.protocols.RetrievalModel`]): a dual encoder.

        Returns:
            The report, see [`report`]. With `rescore_top_k` or a query bank it has their metrics too.
        """
        if self.rescore_top_k is not None:
            check_rescoring(model)
        embeddings = self.embeddings(model)
        ranks = self.ranks(embeddings)
        normalised = None if self.query_bank is None else self.query_bank_ranks(embeddings)
        with_captions = None if self.bank_captions is None else self.query_bank_ranks(embeddings, with_captions=True)
        if self.rescore_top_k is None:
            return self.report(ranks, None, normalised, with_captions)
        return self.report(self.rescored_ranks(model, embeddings, ranks), ranks, normalised, with_captions)
