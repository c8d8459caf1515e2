"""What every sharded command does: it checks the folder, and lets an engine work through the missing shards."""

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any

from tqdm.auto import tqdm

from class_hf.shards.engines import run_work
from class_hf.shards.folder import ShardFolder
from class_hf.shards.parts import ShardReport, check_part, rows_of_shard

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 30


def check_job(folder: ShardFolder, config: dict[str, Any], identity: Mapping[str, str]) -> None:
    """Starts a job in a new folder, or checks that the folder holds the same job.

    Args:
        folder: of the parts.
        config: the description of the job.
        identity: the keys that must be equal, with their names in the error.

    Raises:
        ValueError: if the folder holds another job.
        FileExistsError: if it holds other files.
    """
    existing = folder.read_config()
    if existing is None:
        if folder.names():
            raise FileExistsError(
                f"{folder.location} is not empty and has no {folder.config}. Choose another --output_dir."
            )
        folder.write_config(config)
        return
    for name, words in identity.items():
        if existing.get(name) != config[name]:
            raise ValueError(
                f"{folder.location} holds another job: {words} differs ({existing.get(name)} there, "
                f"{config[name]} now). Choose another --output_dir."
            )


def run_missing(
    folder: ShardFolder,
    work: Callable[[int], ShardReport],
    rows: int,
    shard_size: int,
    *,
    workers: int,
    scheduler: str | None,
    verb: str,
    unit: str,
) -> tuple[int, float]:
    """Runs the shards that are not complete.

    Args:
        folder: of the parts.
        work: writes one shard.
        rows: number of rows of the table.
        shard_size: rows in a shard.
        workers, scheduler: the engine, see [`~class_hf.shards.engines.run_work`].
        verb, unit: for the progress bar, such as `"Encoding"` and `"molecules"`.

    Returns:
        Number of shards that were run, and CPU seconds of the workers.

    Raises:
        ValueError: if an earlier part is damaged.
        KeyboardInterrupt: after Ctrl-C, with the number of complete shards.
    """
    shards = -(-rows // shard_size)
    if scheduler is None:
        folder.remove_leftovers()
    complete = folder.parts()
    missing = [number for number in range(shards) if number not in complete]
    for number in sorted(complete & set(range(shards))):
        first, last = rows_of_shard(number, shard_size, rows)
        check_part(folder, number, last - first)
    done = rows - sum(min(shard_size, rows - number * shard_size) for number in missing)
    if done and missing:
        logger.warning("%s of %s shards are complete; continuing with the others.", shards - len(missing), shards)
    seconds = 0.0
    with closing(run_work(work, missing, workers, scheduler)) as reports:
        try:
            for report in _progress(reports, rows, done, verb, unit):
                seconds += report.seconds
        except KeyboardInterrupt as interrupt:
            count = len(folder.parts())
            raise KeyboardInterrupt(
                f"{count:,} of {shards:,} shards are complete. The same command continues."
            ) from interrupt
    return len(missing), seconds


def _progress(reports: Iterator[ShardReport], total: int, done: int, verb: str, unit: str) -> Iterator[ShardReport]:
    """The reports, with a bar on a terminal, and with a line now and then elsewhere."""
    started = last = time.monotonic()
    earlier = done
    with tqdm(total=total, initial=done, desc=verb, unit=f" {unit}", smoothing=0.1, disable=None) as bar:
        for report in reports:
            yield report
            done += report.rows
            bar.update(report.rows)
            now = time.monotonic()
            if bar.disable and now - last >= _SECONDS_BETWEEN_LINES:
                last = now
                rate = (done - earlier) / (now - started)
                left = (total - done) / rate / 60
                text = f"{done:,} of {total:,} {unit}, {rate:,.0f} a second, {left:,.0f} min left"
                print(text, file=sys.stderr, flush=True)  # noqa: T201
