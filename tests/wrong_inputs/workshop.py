"""The files that wrong inputs are tried on, made once for all cases, and the check that each case must pass."""

import contextlib
import io
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from conftest import rows_of_pairs, tiny_model
from recipe_scripts import load_recipe_script

from class_hf import (
    LexicalTokenizer,
    MoleculeFingerprintFeatureExtractor,
    MoleculeIndex,
    TextMoleculeProcessor,
)
from class_hf.config.command import run_command

ROOT = Path(__file__).parents[2]
SECONDS = 30
# transformers prints its progress bars on standard error.
PROGRESS = re.compile(r"\d+%\||it/s\]|^Loading weights")


@dataclass(frozen=True)
class Case:
    """One wrong input.

    Args:
        name: unique among the cases.
        command: name of the command.
        words: its command line. `{model}`, `{index}`, `{data}`, `{table}`, `{here}` and `{out}` stand for paths.
        culprit: regular expression that the error must match: the file, argument or value that is wrong.
        prepare: writes the files of the case into `{here}`.
    """

    name: str
    command: str
    words: tuple[str, ...]
    culprit: str
    prepare: Callable[["Workshop", Path], None] | None = None


class Workshop:
    """A tiny model, an index of it, a data folder and a table of molecules.

    Args:
        folder: where they are. They are written if it is empty or missing.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.model, self.index, self.data, self.table = (folder / n for n in ("model", "index", "data", "table.csv"))
        if not self.index.exists():
            self._write()

    def _write(self) -> None:
        processor = TextMoleculeProcessor(
            LexicalTokenizer(num_buckets=512), MoleculeFingerprintFeatureExtractor(num_buckets=256, radius=1)
        )
        model = tiny_model(dropout=0.0).eval()
        model.save_pretrained(self.model)
        processor.save_pretrained(self.model)
        rows = rows_of_pairs(24)
        self.data.mkdir(parents=True)
        lines = ["CID\tSMILES\tsplit\thas_description"]
        for split, indices in {"train": range(16), "validation": range(16, 20), "test": range(20, 24)}.items():
            pairs = [f"{1000 + i}\t{rows['smiles'][i]}\t{rows['description'][i]}" for i in indices]
            (self.data / f"{split}.tsv").write_text("\n".join(["CID\tSMILES\tdescription", *pairs]) + "\n")
            lines += [f"{1000 + i}\t{rows['smiles'][i]}\t{split}\t1" for i in indices]
        (self.data / "molecules.tsv").write_text("\n".join(lines) + "\n")
        self.table.write_text("id,smiles\n" + "".join(f"m{i},{rows['smiles'][i]}\n" for i in range(24)))
        from class_hf.data.molecule_tables import read_molecules

        with contextlib.redirect_stdout(io.StringIO()):
            molecules = read_molecules(str(self.table))
            MoleculeIndex.build(molecules, str(self.model), output_dir=str(self.index)).close()

    def words(self, case: Case, here: Path) -> list[str]:
        """The command line of a case, with the paths filled in."""
        paths = {"model": self.model, "index": self.index, "data": self.data, "table": self.table, "here": here}
        words = []
        for word in case.words:
            for name, path in {**paths, "out": here / "output"}.items():
                word = word.replace(f"{{{name}}}", str(path))
            words.append(word)
        return words

    def run(self, case: Case, here: Path) -> tuple[int | str | None, str]:
        """Runs a case in this process. Returns its exit status and what it printed on standard error."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(printed):
            try:
                status: int | str | None = run_command(load_recipe_script(case.command).main, self.words(case, here))
            except SystemExit as end:
                status = end.code
        if isinstance(status, str):
            printed.write(f"{status}\n")
            status = 1
        return status, printed.getvalue()


def listing(folder: Path) -> dict[str, int]:
    """Size of each file below a folder, and -1 for folders."""
    return {str(path.relative_to(folder)): -1 if path.is_dir() else path.lstat().st_size for path in folder.rglob("*")}


def faults(case: Case, status: object, printed: str, seconds: float, before: dict, after: dict) -> list[str]:
    """What is wrong with how a command answered a wrong input. Empty if nothing is."""
    lines = [line for line in printed.splitlines() if line.strip() and not PROGRESS.search(line)]
    errors = [line for line in lines if line.startswith("error: ")]
    wrong = []
    if status not in (1, 2):
        wrong.append(f"exit status {status}")
    if "Traceback" in printed:
        wrong.append("a traceback")
    if len(errors) != 1 or lines[-1:] != errors:
        wrong.append(f"{len(errors)} error lines and {len(lines)} lines, expected the error as the last line")
    elif len(errors[0]) > 1500:
        wrong.append(f"an error of {len(errors[0])} characters")
    elif "--debug to see the traceback" in errors[0]:
        wrong.append("an error that the package does not expect")
    elif not re.search(case.culprit, errors[0], re.IGNORECASE):
        wrong.append(f"an error without {case.culprit!r}")
    if after != before:
        wrong.append(f"files are left or changed: {sorted(set(after.items()) ^ set(before.items()))[:4]}")
    if seconds > SECONDS:
        wrong.append(f"{seconds:.0f} s")
    return [f"{problem}; it printed: {' | '.join(lines)[-600:]}" for problem in wrong[:1]]


def problems_of(case: Case, workshop: Workshop, here: Path) -> list[str]:
    """Runs a case in this process, and says in which ways it does not end as a user error.

    Args:
        case: the wrong input.
        workshop: the files that it is tried on.
        here: an empty folder, which becomes the current one.

    Returns:
        One line for each problem. Empty if there is none.
    """
    here.mkdir(exist_ok=True)
    if case.prepare is not None:
        case.prepare(workshop, here)
    shared = listing(workshop.folder)
    before, folder, started = listing(here), os.getcwd(), time.perf_counter()
    os.chdir(here)
    try:
        status, printed = workshop.run(case, here)
    finally:
        os.chdir(folder)
    problems = faults(case, status, printed, time.perf_counter() - started, before, listing(here))
    if listing(workshop.folder) != shared:
        problems = [*problems, "a shared file changed"]
    return problems
