"""Reads SDF files: the structure, title and properties of each record."""

import logging
import re
import sys
from collections.abc import Iterator
from typing import NamedTuple

from rdkit import Chem, rdBase

from class_hf.data.columns import SYNONYMS, normalise
from class_hf.data.text_files import Notes, Record, SourceFile, read_lines
from class_hf.models.smiles import MAX_ATOMS, MAX_RINGS, size_fault

_PROPERTY = re.compile(r"^>.*?<([^<>]*)>")
_COUNTS = re.compile(r"[ \d]{6}.*V[23]000\s*$")  # the fourth line of a mol block
_NUMBER = r"( {2}\d| \d{2}|\d{3})"  # three columns
_V2000_COUNTS = re.compile(rf"\A(?:.*\n){{3}}{_NUMBER}{_NUMBER}.*V2000")
_V3000_COUNTS = re.compile(r"^M  V30 COUNTS +(\d+) +(\d+)", re.MULTILINE)
# Older and newer PubChem exports. Each is PubChem's isomeric SMILES.
_PUBCHEM_SMILES = ("PUBCHEM_SMILES", "PUBCHEM_OPENEYE_ISO_SMILES")
_ID_NAMES = {name: rank for rank, (name,) in enumerate(SYNONYMS["id"])}
_MAX_LINES = 1_000_000  # of a record
_TITLE = 60  # characters of a title in an error
_REASON = 200  # characters of RDKit's message in an error
# Numbers of an atom, and their largest values. RDKit keeps a number in one byte and reads a charge of 200 as -56.
# A line `M  CHG` or `M  ISO` has pairs of an atom and a value, with four columns for each.
_ATOM_NUMBERS = {
    "charge": (re.compile(r"^M  CHG...(.*)|^M  V30 .* CHG=(-?\d+)", re.MULTILINE), 15),
    "isotope": (re.compile(r"^M  ISO...(.*)|^M  V30 .* MASS=(-?\d+)", re.MULTILINE), 999),
    "valence": (
        re.compile(r"^[ \d.-]{30} \S.{16}(...)|^M  V30 .* (?:VAL|HCOUNT)=(-?\d+)", re.MULTILINE),
        20,
    ),
}
_SMALL = 200  # lines of a mol block; no smaller one exceeds a limit of the SMILES reader
_VIOLATION = re.compile(r"Violation (.+?) Violation occurred")


class SdfRecord(NamedTuple):
    """A record of an SDF file.

    Attributes:
        number: its position in the file, from 1.
        title: its first line.
        block: its mol block.
        properties: its properties, in their order.
        blocks: number of mol blocks; more than one if the separator `$$$$` is missing.
        repeated: name of a property that the record has twice, so that one of its values would be lost.
    """

    number: int
    title: str
    block: str
    properties: dict[str, str]
    blocks: int
    repeated: str | None = None

    @property
    def place(self) -> str:
        """The record in words: its number, and its title or usual id."""
        label = self.title or self.usual_id or ""
        return f"record {self.number}" + (f" {label[:_TITLE]!r}" if label else "")

    @property
    def usual_id(self) -> str | None:
        """The value of the first usual id column among the properties."""
        ranks = {name: _ID_NAMES[normalise(name)] for name in self.properties if normalise(name) in _ID_NAMES}
        names = sorted(ranks, key=ranks.__getitem__)
        return next((self.properties[name].strip() for name in names if self.properties[name].strip()), None)


def read_sdf(file: SourceFile, notes: Notes) -> Iterator[Record]:
    """Reads molecules from an SDF file.

    The SMILES is written by RDKit from the mol block, with its stereochemistry. The id is the title; where the title
    is empty, it is the first usual id property (`chembl_id`, `ChEBI ID`, ...). Properties named `smiles` or `id` are
    kept as `smiles_of_table` and `id_of_table`.

    Args:
        file: the file.
        notes: counts changes.

    Yields:
        A record with `smiles`, `id` and the properties. A record that RDKit cannot read has a `fault` and no SMILES.

    Raises:
        ValueError: if the file holds no record, or under `on_error="raise"` a line is not UTF-8.
    """
    record = None
    for record in split_records(file, notes):
        values: dict[str, str | None] = {"smiles": None, "id": record.title or record.usual_id}
        for name, value in record.properties.items():
            new = f"{name}_of_table" if name.lower() in ("smiles", "id") else name
            if new != name:
                notes.renamed[name] = new
            values[new] = value
        smiles, fault = structure_smiles(record)
        if fault is None and record.repeated is not None:
            fault = f"has the property {record.repeated!r} twice"
        yield Record(record.place, {**values, "smiles": smiles}, fault)
    if record is None:
        raise ValueError(f"{file.name} holds no molecule; expected the records of an SDF file.")


def structure_smiles(record: SdfRecord) -> tuple[str | None, str | None]:
    """The SMILES of a record's mol block and None, or None and why RDKit cannot read it."""
    if record.blocks > 1:
        return None, f"holds {record.blocks} mol blocks; separate them by lines with $$$$"
    if (fault := number_fault(record.block)) is not None:
        return None, f"its mol block {fault}"
    with rdBase.BlockLogs():
        if record.block.count("\n") > _SMALL:
            # Before sanitisation, which takes minutes for thousands of rings. Some ring search comes without it, too.
            if (fault := declared_fault(record.block)) is not None:
                return None, f"its mol block {fault}"
            raw = Chem.MolFromMolBlock(record.block, sanitize=False, removeHs=False)
            fault = None if raw is None else size_fault(raw)
            if fault is not None:
                return None, f"its mol block {fault}"
        molecule = Chem.MolFromMolBlock(record.block)
        if molecule is not None and molecule.GetNumAtoms():
            return Chem.MolToSmiles(molecule), None
    if molecule is not None:
        return None, "its mol block has no atoms"
    return None, f"RDKit cannot read the mol block ({_reason(record.block)})"


def number_fault(block: str) -> str | None:
    """Which number of an atom in a mol block is so large that RDKit would read another one, or None.

    >>> number_fault("x\\n\\n\\nM  CHG  2   1   1   2 200\\n")
    'has an atom with charge 200; the limit is 15'
    >>> number_fault("x\\n\\n\\nM  CHG  1   1  -1\\nM  ISO  1   1  13\\n")
    """
    for name, (pattern, limit) in _ATOM_NUMBERS.items():
        for columns, single in pattern.findall(block):
            values = [single] if single else [columns]
            if columns and name != "valence":
                values = [columns[start : start + 4] for start in range(4, len(columns), 8)]
            for value in values:
                if value.strip().lstrip("-").isdecimal() and abs(int(value[:9])) > limit:
                    return f"has an atom with {name} {value[:9].strip()}; the limit is {limit}"
    return None


def declared_fault(block: str) -> str | None:
    """Which limit a molecule exceeds by the numbers of atoms and bonds in the counts line of its mol block, or None.

    A molecule of A atoms and B bonds has at least B - A + 1 rings.

    >>> declared_fault("x\\n\\n\\nM  V30 COUNTS 4 9 0 0 0"), declared_fault("x\\n\\n\\nM  V30 COUNTS 9999 9 0 0 0")
    (None, 'has 9,999 atoms; the limit is 2,000')
    """
    counts = _V3000_COUNTS.search(block) or _V2000_COUNTS.search(block)
    if counts is None:
        return None
    atoms, bonds = (int(number) for number in counts.groups())
    if atoms > MAX_ATOMS:
        return f"has {atoms:,} atoms; the limit is {MAX_ATOMS:,}"
    if bonds - atoms + 1 > MAX_RINGS:
        return f"has at least {bonds - atoms + 1:,} rings; the limit is {MAX_RINGS:,}"
    return None


def pubchem_smiles(file: SourceFile) -> dict[str, str]:
    """SMILES by CID from an SDF file of PubChem, for Text2Mol's files.

    The CID is the property `PUBCHEM_COMPOUND_CID`, else the title. The SMILES is the isomeric SMILES of PubChem if the
    record has it, else RDKit writes it from the mol block. Records without either are left out.

    Args:
        file: the file.

    Returns:
        SMILES by CID.
    """
    smiles_of: dict[str, str] = {}
    for record in split_records(file, Notes()):
        cid = record.properties.get("PUBCHEM_COMPOUND_CID", record.title).strip()
        smiles = next((record.properties[name] for name in _PUBCHEM_SMILES if name in record.properties), "")
        smiles = smiles.strip() or structure_smiles(record)[0] or ""
        if cid and smiles:
            smiles_of[cid] = smiles
    return smiles_of


def split_records(file: SourceFile, notes: Notes) -> Iterator[SdfRecord]:
    """The records of an SDF file, as text. The last one may lack its separator.

    Raises:
        ValueError: under `on_error="raise"`, if a line is not UTF-8; the error names the record.
    """
    lines: list[str] = []
    number = 1
    try:
        for line in read_lines(file, notes):
            if line.text.startswith("$$$$"):
                yield _record(number, lines)
                number += 1
                lines = []
            else:
                lines.append(line.text)
                if len(lines) > _MAX_LINES:
                    raise ValueError(
                        f"{file.name} record {number} has more than {_MAX_LINES:,} lines; expected an SDF file."
                    )
    except ValueError as error:
        if "is not UTF-8" not in str(error):
            raise
        label = f" {lines[0].strip()[:_TITLE]!r}" if lines and lines[0].strip() else ""
        header = next((match for text in reversed(lines) if (match := _PROPERTY.match(text))), None)
        where = f", property {header.group(1)!r}" if header else ""
        raise ValueError(f"record {number}{label}{where}: {error}") from error
    if any(text.strip() for text in lines):
        yield _record(number, lines)


def _record(number: int, lines: list[str]) -> SdfRecord:
    """A record from its lines, without the separator."""
    end = next((place for place, text in enumerate(lines) if text.startswith("M  END")), len(lines) - 1)
    properties: dict[str, str] = {}
    ends = counts = 0  # further mol blocks, by their last line and by their counts line
    name: str | None = None
    repeated = None
    for text in lines[end + 1 :]:
        ends += text.startswith("M  END")
        counts += _COUNTS.match(text) is not None
        match = _PROPERTY.match(text) if text.startswith(">") else None
        if match and name is None:
            name = match.group(1)
            repeated = name if name in properties else repeated
            properties[name] = ""
        elif not text.strip():
            name = None
        elif name is not None:
            properties[name] = f"{properties[name]}\n{text}" if properties[name] else text
    title = lines[0].strip() if lines else ""
    return SdfRecord(number, title, "\n".join(lines[: end + 1]) + "\n", properties, 1 + max(ends, counts), repeated)


class _Messages(logging.Handler):
    """Keeps the text of log messages, without RDKit's time stamps."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(re.sub(r"\[\d\d:\d\d:\d\d\]\s*", "", record.getMessage()).strip())


def _reason(block: str) -> str:
    """The message of RDKit about a mol block that it cannot read. RDKit gives it to its log only."""
    log, messages = logging.getLogger("rdkit"), _Messages()
    handlers, log.handlers = log.handlers, [messages]
    level = log.level
    log.setLevel(logging.DEBUG)  # whatever the level of the program
    rdBase.LogToPythonLogger()
    try:
        # RDKit cuts its message by bytes, so other characters than ASCII could come out broken.
        Chem.MolFromMolBlock(block.encode("ascii", "replace").decode())
    finally:
        log.handlers = handlers
        log.setLevel(level)
        # RDKit's default: standard error; in a notebook, the standard error of Python.
        (rdBase.LogToPythonStderr if "ipykernel" in sys.modules else rdBase.LogToCppStreams)()
    text = " ".join(" ".join(messages.texts).split())
    violation = _VIOLATION.search(text)  # a failed check in RDKit's code is reported with its file and stack
    return (violation.group(1) if violation else text)[:_REASON] or "no reason given"
