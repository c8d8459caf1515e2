"""Chemical names in a caption, read as structures."""

import re
import subprocess
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from .tokenization_lexical import split_sentences
from .trivial_names import look_up

_LONGEST = 4  # words of a name; longer ones are salts and esters that their parts describe
_SHORTEST = 3  # characters
_BEFORE, _AFTER = 5, 2  # words around a name that tell what it is to the molecule
# Words of prose, which end a name. Among them are words that are names as well, but mean no structure in a caption.
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
_RIM = ".,;:"
_GREEK = str.maketrans({"α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ω": "omega", "′": "'", "″": "''"})
_CHARGE = re.compile(r"\((?:\d*[+-]|[+-]\d*)\)$|(?<=\S) (?:zwitterion|anion|dianion|cation)$")
_CARRIER = re.compile(r"-(?:CoA|\[acyl-carrier protein\])$")
# A fatty acid with its double bonds named once, in front: (9Z)-octadecenoate for (9Z)-octadec-9-enoate.
_FATTY = re.compile(
    r"(?P<before>.*?)(?P<marks>\((?:\d+[RSZE],)*\d+[RSZE]\))-(?P<stem>(?:\d[\w,-]*?-)?[a-z]+?)"
    r"(?P<bonds>en|dien|trien|tetraen|pentaen|hexaen)(?P<after>(?:oic acid|oate|oyl|amide).*)"
)
_BONDS = {"en": 1, "dien": 2, "trien": 3, "tetraen": 4, "pentaen": 5, "hexaen": 6}
_SECONDS, _SECONDS_A_NAME = 60.0, 0.05  # a limit; 72,000 names take some 20 seconds, and Java one or two to start
_CACHE: dict[str, str] = {}
_CACHED_AT_MOST = 1_000_000  # a bound, so that endless streams do not fill the memory


class OpsinError(OSError):
    """OPSIN cannot be run, or does not answer; says why."""


def name_spans(text: str) -> Iterator[tuple[int, int, str]]:
    """What may be a name: first word, word after the last, and the words between; a name ends with its clause.

    >>> [name for _, _, name in name_spans("It derives from a butyric acid.")]
    ['butyric', 'butyric acid', 'acid']
    """
    words = text.translate(_GREEK).split()
    prose = [word.strip("().,;:").lower() in _PROSE for word in words]
    for first in range(len(words)):
        for last in range(first, min(first + _LONGEST, len(words))):
            if prose[last]:
                break
            name = _without_rim(" ".join(words[first : last + 1]))
            if len(name) >= _SHORTEST and name.isascii():
                yield first, last + 1, name
            if words[last][-1] in _RIM:
                break


def _without_rim(words: str) -> str:
    """Words without the punctuation that follows, and without brackets at their rim that belong to the sentence.

    >>> [_without_rim(words) for words in ("(stearic acid),", "(2R)-butan-2-ol", "(stearic", "phenol(1-)")]
    ['stearic acid', '(2R)-butan-2-ol', 'stearic', 'phenol(1-)']
    """
    name = words.rstrip(_RIM)
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
    """How OPSIN may read a name, the best first; the first that it reads counts.

    ChEBI leaves locants out that its stereo marks imply (OPSIN would put the double bonds elsewhere), writes charges
    at the end, names classes in the plural, and joins an acyl group to its carrier, which may have no systematic name.

    >>> spellings("(9Z)-octadecenoate(1-)")
    ['(9Z)-octadec-9-enoate', '(9Z)-octadecenoate(1-)', '(9Z)-octadecenoate']
    >>> spellings("1,3-oxazoles")
    ['1,3-oxazoles', '1,3-oxazole']
    """
    bare = _CHARGE.sub("", name)
    alone = _CARRIER.sub("", bare)
    located = [one for one in (_with_locants(bare), _with_locants(alone)) if one not in (bare, alone)]
    found = [*located[:1], name, bare, *located[1:], alone, bare.removesuffix("s")]
    return [one for one in dict.fromkeys(found) if len(one) >= _SHORTEST]


def _with_locants(name: str) -> str:
    """A fatty acid's name with its double bonds' locants; another name as it is."""
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
        smiles: the structure; a group has a wildcard where it is attached.
        surroundings: tokens of the words around the name, see [`surroundings`].
    """

    smiles: str
    surroundings: list[str]


def surroundings(words: Sequence[str], first: int, end: int) -> list[str]:
    """Tokens of the words around the name `words[first:end]` of a sentence (ours).

    The five words before it, by their distance and without; the last two and the last three together; the two words
    after it. They tell what the name is to the molecule: what it derives from, what replaces a hydrogen of it.

    >>> surroundings("It derives from a butyric acid.".split(), 4, 6)[:3]
    ['-1:a', '-2:from', '-3:derives']
    >>> surroundings(["Butyric", "acid"], 0, 2)
    ['first']
    """
    before, after = ([word.strip(f"(){_RIM}").lower() for word in part] for part in (words[:first], words[end:]))
    near = before[: -_BEFORE - 1 : -1]
    tokens = [f"-{distance}:{word}" for distance, word in enumerate(near, 1)] + [f"-:{word}" for word in near]
    tokens += [f"-:{' '.join(before[-count:])}" for count in (2, 3) if len(before) >= count]
    tokens += [f"+{distance}:{word}" for distance, word in enumerate(after[:_AFTER], 1)]
    return tokens if before else ["first", *tokens]


def read_names(texts: Sequence[str]) -> list[list[NamedStructure]]:
    """The structures that each text names, in the order of the text, with what stands around their names (ours).

    Of names that overlap the longest counts: "butyric acid" and not "butyric". Groups ("hydroxy") come with a
    wildcard where they are attached. OPSIN (Lowe et al., J. Chem. Inf. Model. 51:739, 2011) reads systematic names,
    and the trivial ones that nomenclature builds upon; drugs and natural products, which it does not know, are looked
    up (see [`class_hf.models.trivial_names.look_up`]).

    Raises:
        ImportError: if py2opsin, whose OPSIN is run, or chemicals, which has the table, is not installed.
        OpsinError: if there is no Java to run it, or it fails.

    Example:

    ```python
    >>> (found,) = read_names(["It is the ethyl ester of hexanoic acid. It has a role as a flavour."])
    >>> [one.smiles for one in found]
    ['*CC', 'C(CCCCC)(=O)O']
    ```
    """
    sentences = [split_sentences(text) for text in texts]
    spans = {sentence: list(name_spans(sentence)) for sentence in {one for text in sentences for one in text}}
    wanted = {name: spellings(name) for found in spans.values() for _, _, name in found}
    smiles = _to_smiles(sorted({one for written in wanted.values() for one in written}))
    smiles |= look_up({one for written in wanted.values() if not any(map(smiles.get, written)) for one in written})
    read = {name: next((smiles[one] for one in written if smiles[one]), "") for name, written in wanted.items()}
    structures = {sentence: _longest(sentence, found, read) for sentence, found in spans.items()}
    return [[one for sentence in text for one in structures[sentence]] for text in sentences]


def reader_versions() -> list[str]:
    """The versions of py2opsin and chemicals, which decide what is read; empty where one is not installed."""
    return [_version("py2opsin"), _version("chemicals")]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _longest(sentence: str, spans: Sequence[tuple[int, int, str]], read: dict[str, str]) -> list[NamedStructure]:
    """The structures of the names that were read, without those that a longer one covers, in their order."""
    words = sentence.translate(_GREEK).split()
    taken: set[int] = set()
    chosen = []
    for first, end, name in sorted(spans, key=lambda span: (span[0] - span[1], span[0])):
        if read[name] and taken.isdisjoint(range(first, end)):
            taken.update(range(first, end))
            chosen.append((first, end, read[name]))
    return [NamedStructure(smiles, surroundings(words, first, end)) for first, end, smiles in sorted(chosen)]


def _to_smiles(names: Sequence[str]) -> dict[str, str]:
    """SMILES by name, empty where OPSIN cannot read it. A name is asked for once."""
    known = {name: _CACHE[name] for name in names if name in _CACHE}
    unknown = [name for name in names if name not in known]
    if unknown:
        known |= zip(unknown, _ask_opsin(unknown), strict=True)
        if len(_CACHE) + len(unknown) <= _CACHED_AT_MOST:
            _CACHE.update((name, known[name]) for name in unknown)
    return known


def _ask_opsin(names: Sequence[str]) -> list[str]:
    """SMILES of each name, empty where there is none."""
    package = find_spec("py2opsin")
    if package is None:
        raise ImportError(
            "the model reads chemical names, which needs OPSIN: pip install py2opsin (class_hf's extra `names`), and "
            "a Java runtime of version 8 or newer."
        )
    # The package's own function warns of every name that cannot be read, and trips over a Java that fails.
    folder = Path(next(iter(package.submodule_search_locations or ())))
    jar = max(folder.glob("opsin-cli-*.jar"), default=None)
    if jar is None:
        raise OpsinError(f"py2opsin in {folder} has no opsin-cli-*.jar; expected one, as version 1.2.0 has.")
    # SMILES; without the stereochemistry that it does not understand; groups too, with a wildcard for the rest.
    command = ["java", "-Dfile.encoding=UTF-8", "-jar", str(jar), "-osmi", "-s", "-r", "-w"]
    limit = _SECONDS + len(names) * _SECONDS_A_NAME
    try:
        done = subprocess.run(
            command, input="\n".join(names) + "\n", capture_output=True, encoding="utf-8", timeout=limit, check=True
        )
    except FileNotFoundError as error:
        raise OpsinError(
            "the model reads chemical names by OPSIN, which needs Java: `java` is not on the PATH. Install a Java "
            "runtime of version 8 or newer."
        ) from error
    except subprocess.CalledProcessError as error:
        said = (error.stderr or "").strip().splitlines()[-1:]
        raise OpsinError(
            f"OPSIN ended with status {error.returncode}: {' '.join(said)}. Does `java -version` work?"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise OpsinError(f"OPSIN did not read {len(names)} names within {limit:.0f} seconds.") from error
    found = done.stdout.splitlines()
    if len(found) != len(names):
        raise OpsinError(f"OPSIN gave {len(found)} lines for {len(names)} names; expected as many.")
    return found
