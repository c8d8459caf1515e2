"""Scores the difficulty of tables of any size: fits on a sample of the pairs, and scores them shard by shard."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import rdkit
from rdkit import rdBase

from class_hf._version import __version__
from class_hf.data.molecule_tables import FAULT
from class_hf.data.row_sources import RowSource, open_rows
from class_hf.data.smiles import repair_smiles, smiles_fault
from class_hf.data.validation import OnError
from class_hf.difficulty.pair_features import WORD
from class_hf.difficulty.scorer import DIFFICULTY_COLUMNS, DifficultyScorer
from class_hf.models.tokenization_lexical import MAX_CAPTION_CHARACTERS
from class_hf.shards.driver import check_job, run_missing
from class_hf.shards.folder import ShardFolder
from class_hf.shards.parts import (
    Reject,
    ShardReport,
    add_reject,
    place_of,
    read_rejects,
    rows_of_shard,
    users_columns,
    write_shard,
)
from class_hf.shards.scorer_files import ARRAYS, SCORER, read_scorer, write_scorer
from class_hf.utils.numbers import positive_integer
from class_hf.utils.suggestions import check_choice

logger = logging.getLogger(__name__)

CONFIG = "score.json"
_FITTED = "scorer_sha256"
_PAIR = ("id", "smiles", "description")
# Pairs that are scored at a time. Scores do not depend on it.
_BLOCK = 1_000
_IDENTITY = {
    "table": "the table",
    "rows": "the number of rows",
    "shard_size": "--shard_size",
    "fit_rows": "--fit_rows",
    "scorer": "the definition of the difficulty",
    "rdkit": "the version of RDKit",
}


@dataclass(frozen=True)
class ScoreSettings:
    """Settings of [`score_table`].

    Args:
        fit_rows (`int`, defaults to 100,000): pairs that the scorer is fitted on. A larger table is sampled.
        shard_size (`int`, defaults to 50,000): rows in a shard, which is one file and one unit of work.
        on_error (`str`, defaults to `"drop"`): rows that cannot be scored become rejects with their reason, or
            `"raise"` an error.
        workers (`int`, defaults to 1): processes on this machine, with one thread each.
        scheduler (`str`, *optional*): a cluster in place of local processes, see
            [`~class_hf.shards.engines.run_work`].
        split, column_mapping, encoding: As for [`~class_hf.data.molecule_tables.read_molecules`].

    Raises:
        ValueError: If a value is out of range.

    >>> ScoreSettings(fit_rows=0)
    Traceback (most recent call last):
    ValueError: fit_rows is 0; expected an integer of at least 1.
    """

    fit_rows: int = 100_000
    shard_size: int = 50_000
    on_error: OnError = "drop"
    workers: int = 1
    scheduler: str | None = None
    split: str | None = None
    column_mapping: Mapping[str, str] | None = None
    encoding: str | None = None

    def __post_init__(self) -> None:
        for name in ("fit_rows", "shard_size", "workers"):
            positive_integer.check(name, getattr(self, name))
        check_choice("on_error", self.on_error, ("drop", "raise"))


class ScoreReport(NamedTuple):
    """What a scored table holds.

    Attributes:
        rows: rows of the table.
        shards: number of shards.
        scored: shards that this run scored. The others were complete before.
        rejects: rows that could not be scored.
        first: the first of them.
        seconds: CPU seconds of the workers in this run, without the fit.
    """

    rows: int
    shards: int
    scored: int
    rejects: int
    first: tuple[Reject, ...]
    seconds: float


@dataclass(frozen=True)
class ScoreJob:
    """What a worker needs to score any shard of a table. It is pickled without the rows and the fitted scorer.

    Args:
        rows (`RowSource`): the table.
        output_dir (`str`): folder or URL of the parts and of the fitted scorer.
        digest (`str`): SHA-256 of the file of the fitted scorer, from [`~class_hf.shards.scorer_files.write_scorer`].
        shard_size (`int`): rows in a shard.
        on_error (`str`): `"drop"` or `"raise"`.
    """

    rows: RowSource
    output_dir: str
    digest: str
    shard_size: int
    on_error: OnError


def score_table(
    table: str | Path, output_dir: str | Path, scorer: DifficultyScorer, settings: ScoreSettings | None = None
) -> ScoreReport:
    """Scores a table of pairs of any size into Parquet files.

    The scorer is fitted in this process, on all pairs or on a uniform sample of `fit_rows`, and saved in the folder.
    Then the shards are scored on any engine. Each becomes one file `part-0000000.parquet` with id, SMILES,
    description, the user's columns, and `text_difficulty`, `molecule_difficulty` and `difficulty`. The file appears
    when it is complete. A run that was killed is continued by the same call.

    If all pairs are fitted, the scores equal those of [`~class_hf.difficulty.scorer.score_dataset`] on a table whose
    ids are the row numbers. With a sample, a pair is scored as a new pair against the sample: a rank is that among the
    sample, within .0043 of that among all pairs for 95 of 100 samples of 100,000 (Dvoretzky, Kiefer and Wolfowitz),
    if the raw score does not depend on the sample. Of confusability it does: nearest pairs of the sample are less
    similar than nearest pairs of the table.

    Args:
        table (`str`): a table with SMILES and descriptions, see [`~class_hf.data.row_sources.open_rows`].
        output_dir (`str`): folder or URL of the files.
        scorer (`DifficultyScorer`): a scorer that is not fitted. It is fitted here.
        settings (`ScoreSettings`, *optional*): the settings.

    Returns:
        [`ScoreReport`]: numbers of rows, shards and rejects.

    Raises:
        ValueError: If the table has no SMILES or no descriptions, the folder holds another job, a row is bad and
            `on_error` is `"raise"`, or too few rows are usable.
        FileExistsError: If the folder holds other files.
        OSError: If the disk is full. Complete shards stay.

    Example:

    ```python
    report = score_table("pairs.parquet", "outputs/scored", DifficultyScorer("complexity"), ScoreSettings(workers=8))
    print(report.rows, report.rejects)
    ```
    """
    settings = settings or ScoreSettings()
    options: dict[str, Any] = {"column_mapping": settings.column_mapping, "encoding": settings.encoding}
    rows = open_rows(table, "text", settings.split, on_error=settings.on_error, **options)
    if "smiles" not in rows.schema.names:
        raise ValueError(f"{table} has no column 'smiles'; it has {rows.schema.names}. A pair needs a SMILES too.")
    location = str(output_dir) if "://" in str(output_dir) else str(Path(output_dir).resolve())
    folder = ShardFolder(location, CONFIG)
    config: dict[str, Any] = {
        "class_hf_version": __version__,
        "source": str(table),
        "table": rows.identity,
        "rows": len(rows),
        "shard_size": settings.shard_size,
        "shards": -(-len(rows) // settings.shard_size),
        "fit_rows": min(settings.fit_rows, len(rows)),
        "scorer": scorer.describe(),
        "rdkit": rdkit.__version__,
    }
    with folder.locked():
        check_job(folder, config, _IDENTITY)
        fitted = (folder.read_config() or {}).get(_FITTED)
        if fitted is None or not {SCORER, ARRAYS} <= set(folder.names()):
            if len(rows) > settings.fit_rows:
                logger.warning(
                    "the scorer is fitted on %s of %s pairs. Confusability and alignment differ from those among all "
                    "pairs, complexity hardly. Pass a larger --fit_rows if the memory allows.",
                    f"{settings.fit_rows:,}",
                    f"{len(rows):,}",
                )
            fitted = write_scorer(folder, scorer.fit(_sample(rows, settings, scorer.seed)))
            folder.write_config({**config, _FITTED: fitted})
        job = ScoreJob(rows, location, fitted, settings.shard_size, settings.on_error)
        read_scorer(location, fitted)
        scored, seconds = run_missing(
            folder,
            partial(score_shard, job),
            len(rows),
            settings.shard_size,
            workers=settings.workers,
            scheduler=settings.scheduler,
            verb="Scoring",
            unit="pairs",
        )
        count, first = read_rejects(folder)
    return ScoreReport(len(rows), config["shards"], scored, count, tuple(first), seconds)


def score_shard(job: ScoreJob, number: int) -> ShardReport:
    """Scores the rows `number * shard_size` to `(number + 1) * shard_size`, and writes them as one file.

    The file appears when it is complete. The same job gives the same bytes, on every engine.

    Args:
        job: the job.
        number: of the shard, from 0.

    Returns:
        A short report.

    Raises:
        ValueError: If a row is bad and `on_error` is `"raise"`, or the file with the scorer was changed.
        OSError: If the disk is full.
    """
    rows = rows_of_shard(number, job.shard_size, len(job.rows))
    read = partial(_score_blocks, job, *rows)
    folder = ShardFolder(job.output_dir, CONFIG)
    return write_shard(folder, number, rows, part_schema(job), read, _BLOCK, compression="zstd")


def part_schema(job: ScoreJob) -> pa.Schema:
    """The columns of a part: the pair, the user's columns, and the three scores."""
    fields = [pa.field(name, pa.string()) for name in _PAIR]
    for name, new in users_columns(job.rows.schema.names, _PAIR, DIFFICULTY_COLUMNS):
        fields.append(job.rows.schema.field(name).with_name(new))
    return pa.schema([*fields, *(pa.field(name, pa.float64()) for name in DIFFICULTY_COLUMNS)])


def _sample(rows: RowSource, settings: ScoreSettings, seed: int) -> dict[str, list[str]]:
    """The usable pairs among all rows or among a uniform sample of them, named by their row numbers."""
    chosen = np.arange(len(rows))
    if len(rows) > settings.fit_rows:
        chosen = np.sort(np.random.default_rng(seed).choice(len(rows), settings.fit_rows, replace=False))
    pairs: dict[str, list[str]] = {name: [] for name in _PAIR}
    first = 0
    with rdBase.BlockLogs():
        for table in rows.blocks(0, len(rows), _BLOCK):
            low, high = np.searchsorted(chosen, (first, first + len(table)))
            columns = _columns(table.take(pa.array(chosen[low:high] - first)))
            for row, smiles, description, fault in zip(chosen[low:high].tolist(), *columns, strict=True):
                if _text_fault(smiles, description, fault) is None and smiles_fault(smiles) is None:
                    for name, value in zip(_PAIR, (str(row), smiles, description), strict=True):
                        pairs[name].append(value)
            first += len(table)
    return pairs


def _columns(table: pa.Table) -> tuple[list[str], list[str], list[str | None]]:
    """Repaired SMILES, descriptions, and the faults that the reader found."""
    smiles = [repair_smiles(value or "") for value in table["smiles"].to_pylist()]
    descriptions = [value or "" for value in table["description"].to_pylist()]
    faults = table[FAULT].to_pylist() if FAULT in table.column_names else [None] * len(table)
    return smiles, descriptions, faults


def _text_fault(smiles: str, description: str, fault: str | None) -> str | None:
    """What is wrong with a row before its SMILES is parsed, or None."""
    if fault is not None:
        return fault
    if not smiles or not description.strip():
        return f"empty or missing: {'description' if smiles else 'smiles'}"
    if len(description) > MAX_CAPTION_CHARACTERS:
        return f"the description has {len(description):,} characters; the limit is {MAX_CAPTION_CHARACTERS:,}"
    return None if WORD.search(description) else f"the description {description[:60]!r} has no word"


def _score_blocks(job: ScoreJob, start: int, stop: int, rejects: list[Reject]) -> Iterator[pa.Table]:
    """The scored rows of a shard, block by block."""
    scorer = read_scorer(job.output_dir, job.digest)
    schema = part_schema(job)
    first = start
    for table in job.rows.blocks(start, stop, _BLOCK):
        smiles, descriptions, faults = _columns(table)
        faults = [_text_fault(*row) for row in zip(smiles, descriptions, faults, strict=True)]
        kept = [place for place, fault in enumerate(faults) if fault is None]

        def score(kept: list[int], first: int = first, texts: Any = (smiles, descriptions)) -> dict[str, list[Any]]:
            ids = [str(first + place) for place in kept]
            columns = [ids, *([column[place] for place in kept] for column in texts)]
            return scorer(dict(zip(_PAIR, columns, strict=True)))

        try:
            scores = score(kept)
        except ValueError:  # RDKit refuses a molecule of the block
            for place in kept:
                faults[place] = smiles_fault(smiles[place])
            kept = [place for place in kept if faults[place] is None]
            scores = score(kept)
        ids = table["id"].to_pylist() if "id" in table.column_names else [None] * len(table)
        for place, fault in enumerate(faults):
            if fault is None:
                continue
            reject = Reject(first + place, place_of(table, place), ids[place], smiles[place], fault)
            add_reject(rejects, reject, job.on_error)
        if kept:
            chosen = table.take(pa.array(kept))
            columns = {new: chosen[name] for name, new in users_columns(table.column_names, _PAIR, DIFFICULTY_COLUMNS)}
            columns["id"] = pa.array([ids[place] or str(first + place) for place in kept])
            columns["smiles"] = pa.array([smiles[place] for place in kept])
            columns["description"] = chosen["description"]
            columns |= {name: pa.array(scores[name]) for name in DIFFICULTY_COLUMNS}
            yield pa.table([columns[field.name] for field in schema], schema=schema)
        first += len(table)
