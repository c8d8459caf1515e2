"""Reads the lines of text files of any common encoding, compressed or not."""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, cast

OnError = Literal["raise", "drop"]

MAX_LINE = 1_000_000  # characters; no row of a table of molecules is longer
_SAMPLE = 1 << 16
_CONTENTS = {
    b"PK\x03\x04": "a zip archive or an Excel workbook; unpack it, or save the table as CSV",
    b"BZh": "a bzip2 archive; unpack it",
    b"\xfd7zXZ": "an xz archive; unpack it",
    b"\x28\xb5\x2f\xfd": "a zstd archive; unpack it",
    b"%PDF": "a PDF document; export the table as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save the table as CSV",
    b"version https://git-lfs.github.com": "a Git LFS pointer, not the file; run `git lfs pull` in its folder",
    b"<!DOCTYPE": "an HTML page; download the file again",
    b"<html": "an HTML page; download the file again",
}
_BOMS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}


# Codecs of Python for parts of text. They would read a backslash of a SMILES as an escape.
_NOT_OF_FILES = ("idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape")


class SourceFile(NamedTuple):
    """A file to read.

    Attributes:
        name: what errors call it. For a download this is the URL, because the path of its cache says nothing.
        path: where it is.
        encoding: its encoding. None: UTF-8, or what its byte order mark says.
        on_error: `"raise"` at a malformed line. `"drop"`: mark a malformed row as unusable, and read lines that are
            not UTF-8 as Windows-1252.
    """

    name: str
    path: Path
    encoding: str | None = None
    on_error: OnError = "raise"

    @property
    def suffix(self) -> str:
        """The ending of the name in lower case, without `.gz`.

        >>> SourceFile("A.SDF.gz", Path("A.SDF.gz")).suffix
        '.sdf'
        """
        name = self.path.name.lower()
        return Path(name.removesuffix(".gz").removesuffix(".gzip")).suffix


class Line(NamedTuple):
    """A line of text without its end, and its number from 1."""

    number: int
    text: str


class Record(NamedTuple):
    """A row of a table, as its source has it.

    Attributes:
        place: where it is in the file, such as `"line 3"`.
        values: column to text; a missing value is None.
        fault: why it cannot be used, or None.
        nested: columns whose value is a list or an object, written as text.
    """

    place: str
    values: dict[str, str | None]
    fault: str | None = None
    nested: tuple[str, ...] = ()

    def nested_fault(self, columns: Iterable[str]) -> str | None:
        """What is wrong if one of these columns, which must be text, is a list or an object.

        >>> Record("line 2", {"caption": "['a', 'b']"}, nested=("caption",)).nested_fault(["id", "caption"])
        "its 'caption' is a list or an object; expected a text, in a row of its own"
        """
        name = next((name for name in columns if name in self.nested), None)
        return None if name is None else f"its {name!r} is a list or an object; expected a text, in a row of its own"


@dataclass
class Notes:
    """Counts of what was changed while a file was read, for one message."""

    undecodable: int = 0
    first_undecodable: int = 0
    quoted: int = 0
    renamed: dict[str, str] = field(default_factory=dict)

    def messages(self) -> list[str]:
        """One sentence for each kind of change.

        >>> Notes(quoted=2).messages()
        ['2 quoted fields were decoded']
        """
        parts = []
        if self.undecodable:
            parts.append(
                f"{self.undecodable:,} lines are not UTF-8 (the first: line {self.first_undecodable}) and were read "
                "as Windows-1252; name another encoding with --encoding"
            )
        if self.quoted:
            parts.append(f"{self.quoted:,} quoted fields were decoded")
        if self.renamed:
            names = ", ".join(f"{old!r} to {new!r}" for old, new in self.renamed.items())
            parts.append(f"columns were renamed, because their names have another meaning here: {names}")
        return parts


@contextmanager
def open_binary(file: SourceFile) -> Iterator[IO[bytes]]:
    """Opens a file, decompressed if it is gzip, whatever its name.

    Raises:
        ValueError: if the content is an archive, a Git LFS pointer or an HTML page, or damaged gzip (while reading).
    """
    with ExitStack() as stack:
        stream: IO[bytes] = stack.enter_context(file.path.open("rb"))
        stack.enter_context(_naming(file))
        is_gzip = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        if is_gzip:
            stream = cast(IO[bytes], stack.enter_context(gzip.GzipFile(fileobj=stream)))
        try:
            head = stream.read(64).removeprefix(codecs.BOM_UTF8).lstrip()
            stream.seek(0)
            for start, content in _CONTENTS.items():
                if head.startswith(start):
                    raise ValueError(f"{file.name} is {content}.")
            yield stream
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(
                f"{file.name} is a damaged or incomplete gzip file ({error}); copy or download it again."
            ) from error


@contextmanager
def _naming(file: SourceFile) -> Iterator[None]:
    """Adds the name of the file to an error of the disk or the network, which has none."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, file.name) from error


def read_sample(file: SourceFile) -> str:
    """The start of a file as text, about 64,000 bytes, for finding its format. Undecodable bytes are replaced.

    Raises:
        ValueError: as [`open_binary`].
    """
    with open_binary(file) as stream:
        head = stream.read(_SAMPLE)
    return head.decode(_encoding(file, head), errors="replace").lstrip("\ufeff")


def _encoding(file: SourceFile, head: bytes) -> str:
    """The encoding of a file: what was asked for, else by its byte order mark or zero bytes, else UTF-8."""
    if file.encoding is not None:
        try:
            io.TextIOWrapper(io.BytesIO(), file.encoding)  # fails for codecs of bytes, such as hex
            name = codecs.lookup(file.encoding).name
        except (LookupError, ValueError):
            name = ""
        if not name or name.replace("_", "-") in _NOT_OF_FILES:
            raise ValueError(
                f"--encoding {file.encoding[:40]!r} is not known; expected for instance utf-8, cp1252, latin-1 or "
                "utf-16."
            )
        return name
    for mark, name in _BOMS.items():
        if head.startswith(mark):
            return name
    if b"\0" in head[:4096]:
        even, odd = head[0:4096:2].count(0), head[1:4096:2].count(0)
        if odd > len(head[:4096]) / 4 and not even:
            return "utf-16-le"
        if even > len(head[:4096]) / 4 and not odd:
            return "utf-16-be"
        line = head.count(b"\n", 0, head.index(b"\0")) + 1
        raise ValueError(f"{file.name} line {line} holds a zero byte; expected a text file.")
    return "utf-8"


def read_lines(file: SourceFile, notes: Notes | None = None) -> Iterator[Line]:
    r"""The lines of a text file, whether they end with LF, CRLF or CR. A byte order mark is dropped.

    Only these line ends separate lines, because captions may hold others (U+2028, U+0085, form feed).

    Args:
        file: the file, and its encoding.
        notes: counts the lines that were read as Windows-1252.

    Yields:
        each line.

    Raises:
        ValueError: if a line is not in the encoding of the file or too long, or the file is damaged. The error names
            the line.
    """
    with open_binary(file) as stream:
        head = stream.read(_SAMPLE)
        stream.seek(0)
        encoding = _encoding(file, head)
        if encoding in ("utf-8", "utf-8-sig"):
            yield from _utf8_lines(file, stream, head, notes or Notes())
        else:
            yield from _encoded_lines(file, stream, encoding)


def _utf8_lines(file: SourceFile, stream: IO[bytes], head: bytes, notes: Notes) -> Iterator[Line]:
    """Lines of a UTF-8 file, each decoded alone, so that a wrong byte has a line number."""
    carriage_returns = b"\n" not in head and b"\r" in head
    for number, raw in enumerate(_split(file, stream, b"\r" if carriage_returns else b"\n"), start=1):
        if number == 1:
            raw = raw.removeprefix(codecs.BOM_UTF8)
        if b"\0" in raw:
            if file.on_error == "raise":
                raise ValueError(f"{file.name} line {number} holds a zero byte; expected a text file.")
            raw = raw.replace(b"\0", "\ufffd".encode())
        try:
            yield Line(number, raw.decode("utf-8"))
        except UnicodeDecodeError as error:
            if file.on_error == "raise":
                raise ValueError(
                    f"{file.name} line {number} is not UTF-8 (byte 0x{raw[error.start]:02x}). Name the encoding with "
                    "--encoding, for instance --encoding cp1252 (Windows, Latin-1), or convert the file."
                ) from error
            notes.undecodable += 1
            notes.first_undecodable = notes.first_undecodable or number
            yield Line(number, raw.decode("cp1252", errors="replace"))


def _split(file: SourceFile, stream: IO[bytes], end: bytes) -> Iterator[bytes]:
    """The lines of a binary stream without their ends; the length of a line is limited."""
    if end == b"\r":
        with io.TextIOWrapper(stream, encoding="latin-1", newline="\r") as text:
            for number, line in enumerate(iter(lambda: text.readline(MAX_LINE + 2), ""), start=1):
                _check_length(file, number, line)
                yield line.removesuffix("\r").encode("latin-1")
        return
    for number, raw in enumerate(iter(lambda: stream.readline(MAX_LINE + 2), b""), start=1):
        _check_length(file, number, raw)
        yield raw.removesuffix(b"\n").removesuffix(b"\r")


def _encoded_lines(file: SourceFile, stream: IO[bytes], encoding: str) -> Iterator[Line]:
    """Lines of a file in another encoding than UTF-8."""
    number = 0
    try:
        with io.TextIOWrapper(stream, encoding=encoding, newline=None) as text:
            for number, line in enumerate(iter(lambda: text.readline(MAX_LINE + 2), ""), start=1):
                _check_length(file, number, line)
                yield Line(number, (line.lstrip("\ufeff") if number == 1 else line).removesuffix("\n"))
    except UnicodeError as error:
        raise ValueError(
            f"{file.name} is not {encoding} after line {number} ({error}). Name the encoding with --encoding."
        ) from error


def _check_length(file: SourceFile, number: int, line: str | bytes) -> None:
    """Refuses a line that is too long."""
    if len(line) > MAX_LINE + 1:
        raise ValueError(f"{file.name} line {number} has more than {MAX_LINE:,} characters; expected a table.")


def as_text(value: Any) -> str | None:
    """A value as text; None and NaN are None.

    A column of integers with a missing value is stored as floats by many tools, so 2244.0 is read as 2244.

    >>> as_text(2244.0), as_text("CCO"), as_text(b"CCO"), as_text(float("nan"))
    ('2244', 'CCO', 'CCO', None)
    """
    if value is None or value != value:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
