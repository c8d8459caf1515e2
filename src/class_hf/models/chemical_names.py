"""Finds chemical names in captions and converts them to structures with OPSIN."""

import re
import subprocess
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from .tokenization_lexical import split_sentences
from .trivial_names import look_up

_LONGEST = 4  # words of a name; longer names are salts and esters, which their parts describe
_SHORTEST = 3  # characters of a name
_BEFORE, _AFTER = 5, 2  # number of words before and after a name that relate it to the molecule
# Words of prose, which end a name. Some of them are names too, but denote no structure in a caption.
_PROSE = frozenset(
    """
    a acid's acids agent all also an and any are as at attached base bearing been being between both by can
    carrying class compound compounds conjugate consisting containing derivative derived derives each eight either
    ester's five formed found four from group groups has have having hydrogen hydrogens in inhibitor into is
    isolated it its joined lead leading leads linkage linkages linked major may member metabolite moiety nine
    obtained of on one or other ph position positions replaced residue residues respectively resulting role seven
    six species substituted such ten than that the their these this those three to two use used uses via was were
    when where which whose with
    """.split()
)
_PUNCTUATION = ".,;:"
_GREEK = str.maketrans({"α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ω": "omega", "′": "'", "″": "''"})
_CHARGE = re.compile(r"\((?:\d*[+-]|[+-]\d*)\)$|(?<=\S) (?:zwitterion|anion|dianion|cation)$")
_CARRIER = re.compile(r"-(?:CoA|\[acyl-carrier protein\])$")
# A fatty acid whose double bonds have locants in front only: (9Z)-octadecenoate for (9Z)-octadec-9-enoate.
_FATTY = re.compile(
    r"(?P<before>.*?)(?P<marks>\((?:\d+[RSZE],)*\d+[RSZE]\))-(?P<stem>(?:\d[\w,-]*?-)?[a-z]+?)"
    r"(?P<bonds>en|dien|trien|tetraen|pentaen|hexaen)(?P<after>(?:oic acid|oate|oyl|amide).*)"
)
_BONDS = {"en": 1, "dien": 2, "trien": 3, "tetraen": 4, "pentaen": 5, "hexaen": 6}
# Time limit of OPSIN. 72,000 names take about 20 seconds, and Java starts in one or two.
_SECONDS, _SECONDS_A_NAME = 60.0, 0.05
_CACHE: dict[str, str] = {}
_MAX_CACHED = 1_000_000  # names, so that endless streams do not fill the memory


class OpsinError(OSError):
    """OPSIN cannot be run or fails. The message gives the reason."""


def name_spans(text: str) -> Iterator[tuple[int, int, str]]:
    """Finds the parts of a sentence that may be a chemical name.

    A name has at most four words, none of them prose, and does not extend beyond its clause.

    Args:
        text: one sentence.

    Yields:
        First word, word after the last, and the name.

    Example:

    >>> [name for _, _, name in name_spans("It derives from a butyric acid.")]
    ['butyric', 'butyric acid', 'acid']
    """
    words = text.translate(_GREEK).split()
    prose = [word.strip("().,;:").lower() in _PROSE for word in words]
    for first in range(len(words)):
        for last in range(first, min(first + _LONGEST, len(words))):
            if prose[last]:
                break
            name = _strip_punctuation(" ".join(words[first : last + 1]))
            if len(name) >= _SHORTEST and name.isascii():
                yield first, last + 1, name
            if words[last][-1] in _PUNCTUATION:
                break


def _strip_punctuation(words: str) -> str:
    """Removes punctuation at the end, and brackets at both ends that belong to the sentence and not to the name.

    >>> [_strip_punctuation(words) for words in ("(stearic acid),", "(2R)-butan-2-ol", "(stearic", "phenol(1-)")]
    ['stearic acid', '(2R)-butan-2-ol', 'stearic', 'phenol(1-)']
    """
    name = words.rstrip(_PUNCTUATION)
    for opening, closing in ("()", "[]"):
        surplus = name.count(opening) - name.count(closing)
        if surplus > 0 and name.startswith(opening):
            name = name[1:]
        elif surplus < 0 and name.endswith(closing):
            name = name[:-1]
        elif name.startswith(opening) and name.find(closing) == len(name) - 1:
            name = name[1:-1]
    return name


def spellings(name: str) -> list[str]:
    """Lists the spellings of a name that OPSIN may read, the best first. The first that OPSIN reads is used.

    ChEBI omits locants that its stereo marks imply, and OPSIN would place the double bonds elsewhere. ChEBI also
    writes charges at the end, uses plurals for classes, and joins an acyl group to its carrier, which may have no
    systematic name.

    Args:
        name: a name as a caption writes it.

    Returns:
        The spellings, without duplicates.

    Example:

    >>> spellings("(9Z)-octadecenoate(1-)")
    ['(9Z)-octadec-9-enoate', '(9Z)-octadecenoate(1-)', '(9Z)-octadecenoate']
    >>> spellings("1,3-oxazoles")
    ['1,3-oxazoles', '1,3-oxazole']
    """
    uncharged = _CHARGE.sub("", name)
    without_carrier = _CARRIER.sub("", uncharged)
    plain = (uncharged, without_carrier)
    located = [spelling for spelling in map(_with_locants, plain) if spelling not in plain]
    candidates = [*located[:1], name, uncharged, *located[1:], without_carrier, uncharged.removesuffix("s")]
    return [spelling for spelling in dict.fromkeys(candidates) if len(spelling) >= _SHORTEST]


def _with_locants(name: str) -> str:
    """Adds the locants of the double bonds to a fatty acid's name. Other names are returned unchanged."""
    fatty = _FATTY.fullmatch(name)
    if fatty is None:
        return name
    locants = re.findall(r"(\d+)[ZE]", fatty["marks"])
    if len(locants) != _BONDS[fatty["bonds"]]:
        return name
    stem = fatty["stem"].removesuffix("a") + ("a" if len(locants) > 1 else "")
    return f"{fatty['before']}{fatty['marks']}-{stem}-{','.join(locants)}-{fatty['bonds']}{fatty['after']}"


class NamedStructure(NamedTuple):
    """A structure that a text names.

    Attributes:
        smiles: the structure. A group has a wildcard at its attachment point.
        surroundings: tokens of the words around the name (see [`surroundings`]).
    """

    smiles: str
    surroundings: list[str]


def surroundings(words: Sequence[str], first: int, end: int) -> list[str]:
    """Tokens of the words around a name, which relate the name to the molecule.

    The tokens are: each of the five words before the name, with its distance and without; the last two words
    together, and the last three; each of the two words after the name, with its distance.

    Args:
        words: the words of a sentence.
        first: the first word of the name.
        end: the word after the name.

    Returns:
        The tokens. `first` marks a name at the beginning of its sentence.

    Example:

    >>> surroundings("It derives from a butyric acid.".split(), 4, 6)[:3]
    ['-1:a', '-2:from', '-3:derives']
    >>> surroundings(["Butyric", "acid"], 0, 2)
    ['first']
    """
    stripped = [word.strip(f"(){_PUNCTUATION}").lower() for word in words]
    before, after = stripped[:first], stripped[end:]
    near = before[: -_BEFORE - 1 : -1]
    tokens = [f"-{distance}:{word}" for distance, word in enumerate(near, 1)] + [f"-:{word}" for word in near]
    tokens += [f"-:{' '.join(before[-count:])}" for count in (2, 3) if len(before) >= count]
    tokens += [f"+{distance}:{word}" for distance, word in enumerate(after[:_AFTER], 1)]
    return tokens if before else ["first", *tokens]


def read_names(texts: Sequence[str]) -> list[list[NamedStructure]]:
    """Finds the structures that each text names.

    Of overlapping names the longest is used: "butyric acid" and not "butyric". A group ("hydroxy") has a wildcard at
    its attachment point. OPSIN (Lowe et al., J. Chem. Inf. Model. 51:739, 2011) reads systematic names and the
    trivial names that nomenclature builds on. Other names, of drugs and natural products, are looked up (see
    [`class_hf.models.trivial_names.look_up`]).

    Args:
        texts: captions.

    Returns:
        The structures of each text, in the order of their names in it.

    Raises:
        ImportError: if py2opsin, which contains OPSIN, or chemicals, which has the table, is not installed.
        OpsinError: if Java is not installed, or OPSIN fails.

    Example:

    ```python
    >>> (structures,) = read_names(["It is the ethyl ester of hexanoic acid. It has a role as a flavour."])
    >>> [structure.smiles for structure in structures]
    ['*CC', 'C(CCCCC)(=O)O']

    ```
    """
    text_sentences = [split_sentences(text) for text in texts]
    distinct = {sentence for sentences in text_sentences for sentence in sentences}
    spans = {sentence: list(name_spans(sentence)) for sentence in distinct}
    variants = {name: spellings(name) for sentence_spans in spans.values() for _, _, name in sentence_spans}
    smiles = _to_smiles(sorted({spelling for options in variants.values() for spelling in options}))
    unread = [options for options in variants.values() if not any(map(smiles.get, options))]
    smiles |= look_up({spelling for options in unread for spelling in options})
    name_smiles = {
        name: next((smiles[spelling] for spelling in options if smiles[spelling]), "")
        for name, options in variants.items()
    }
    structures = {
        sentence: _longest_names(sentence, sentence_spans, name_smiles) for sentence, sentence_spans in spans.items()
    }
    return [
        [structure for sentence in sentences for structure in structures[sentence]] for sentences in text_sentences
    ]


def reader_versions() -> list[str]:
    """Versions of py2opsin and chemicals, on which the result of [`read_names`] depends; empty if not installed."""
    return [_version("py2opsin"), _version("chemicals")]


def _version(package: str) -> str:
    """The version of an installed package; empty if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _longest_names(
    sentence: str, spans: Sequence[tuple[int, int, str]], smiles: dict[str, str]
) -> list[NamedStructure]:
    """The structures of a sentence's names, in their order. Names that overlap a longer one are left out."""
    words = sentence.translate(_GREEK).split()
    covered: set[int] = set()
    chosen = []
    for first, end, name in sorted(spans, key=lambda span: (span[0] - span[1], span[0])):
        if smiles[name] and covered.isdisjoint(range(first, end)):
            covered.update(range(first, end))
            chosen.append((first, end, smiles[name]))
    return [NamedStructure(structure, surroundings(words, first, end)) for first, end, structure in sorted(chosen)]


def _to_smiles(names: Sequence[str]) -> dict[str, str]:
    """SMILES by name, empty for names that OPSIN cannot read. OPSIN sees each name once."""
    known = {name: _CACHE[name] for name in names if name in _CACHE}
    unknown = [name for name in names if name not in known]
    if unknown:
        known |= zip(unknown, _ask_opsin(unknown), strict=True)
        if len(_CACHE) + len(unknown) <= _MAX_CACHED:
            _CACHE.update((name, known[name]) for name in unknown)
    return known


def _ask_opsin(names: Sequence[str]) -> list[str]:
    """The SMILES of each name, empty for names that OPSIN cannot read."""
    package = find_spec("py2opsin")
    if package is None:
        raise ImportError(
            "the model reads chemical names, which needs OPSIN: pip install py2opsin (class_hf's extra `names`), and "
            "a Java runtime of version 8 or newer."
        )
    # py2opsin's function warns about every name that cannot be read, and raises another error if Java fails.
    folder = Path(next(iter(package.submodule_search_locations or ())))
    jar = max(folder.glob("opsin-cli-*.jar"), default=None)
    if jar is None:
        raise OpsinError(f"py2opsin in {folder} has no opsin-cli-*.jar; expected one, as in version 1.2.0.")
    # Output SMILES, ignore stereochemistry that OPSIN cannot interpret, and read groups, with a wildcard.
    command = ["java", "-Dfile.encoding=UTF-8", "-jar", str(jar), "-osmi", "-s", "-r", "-w"]
    limit = _SECONDS + len(names) * _SECONDS_A_NAME
    try:
        done = subprocess.run(
            command, input="\n".join(names) + "\n", capture_output=True, encoding="utf-8", timeout=limit, check=True
        )
    except FileNotFoundError as error:
        raise OpsinError(
            "the model reads chemical names with OPSIN, which needs Java, but `java` is not on the PATH. Install a "
            "Java runtime of version 8 or newer."
        ) from error
    except subprocess.CalledProcessError as error:
        message = " ".join((error.stderr or "").strip().splitlines()[-1:])
        raise OpsinError(
            f"OPSIN ended with status {error.returncode}: {message}. Check that `java -version` works."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise OpsinError(f"OPSIN did not read {len(names)} names within {limit:.0f} seconds.") from error
    smiles = done.stdout.splitlines()
    if len(smiles) != len(names):
        raise OpsinError(f"OPSIN returned {len(smiles)} lines for {len(names)} names; expected one line per name.")
    return smiles
