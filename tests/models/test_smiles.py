"""The gate of all SMILES: what RDKit would silently cut off is refused, and so are molecules that take minutes."""

import time

import pytest
from rdkit import Chem

from class_hf import (
    MoleculeFingerprintFeatureExtractor,
    MoleculeFusedFeatureExtractor,
    MoleculeGraphFeatureExtractor,
    OrmaFeatureExtractor,
    Text2MolFeatureExtractor,
)
from class_hf.models.smiles import (
    MAX_ATOMS,
    MAX_NEIGHBOURS,
    MAX_RINGS,
    MAX_SMILES_CHARACTERS,
    parse_smiles,
)

EXTRACTORS = [
    MoleculeFingerprintFeatureExtractor(substructures=["torsions", "composition", "ring_systems", "pieces"]),
    MoleculeFusedFeatureExtractor(),
    MoleculeGraphFeatureExtractor(),
    OrmaFeatureExtractor(),
    Text2MolFeatureExtractor(),
]


def complete_graph(atoms: int) -> str:
    """Wildcards that are all bonded to each other."""
    molecule = Chem.RWMol()
    for index in range(atoms):
        molecule.AddAtom(Chem.Atom(0))
        for other in range(index):
            molecule.AddBond(index, other, Chem.BondType.SINGLE)
    return Chem.MolToSmiles(molecule, canonical=False)


@pytest.mark.parametrize("extractor", EXTRACTORS, ids=lambda extractor: type(extractor).__name__)
@pytest.mark.parametrize("smiles", ["CC\u041e", "CCO ethanol", "C1CC1" * 1600, "", "c1cccc1"])
def test_every_extractor_passes_the_gate(extractor, smiles):
    with pytest.raises(ValueError, match="the SMILES"):
        extractor.encode(smiles)


@pytest.mark.parametrize(
    ("smiles", "character", "position"),
    [
        ("CC\u041e", "U+041E (CYRILLIC CAPITAL LETTER O)", 3),  # RDKit: ethane
        ("\u0421CO", "U+0421 (CYRILLIC CAPITAL LETTER ES)", 1),
        ("\ufeffCCO", "U+FEFF (ZERO WIDTH NO-BREAK SPACE)", 1),
        ("CCO\u200b", "U+200B (ZERO WIDTH SPACE)", 4),
        ("CC\u00a0O", "U+00A0 (NO-BREAK SPACE)", 3),
        ("C\u2212C", "U+2212 (MINUS SIGN)", 2),
        ("CCO\x00", "U+0000 (a control character)", 4),
        ("CCO\x01", "U+0001 (a control character)", 4),
        ("CCO |$\u03b1$|", "U+03B1 (GREEK SMALL LETTER ALPHA)", 7),
    ],
)
def test_characters_that_rdkit_drops_are_refused(smiles, character, position):
    with pytest.raises(ValueError) as error:
        parse_smiles(smiles)
    assert f"has the character {character} at position {position};" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("smiles", "rest"),
    [
        ("CCO ethanol", "ethanol"),
        ("CCO\t17", "17"),
        ("CCO\nCCN", "CCN"),
        ("C C", "C"),
        ("CCO |$;;R$| ethanol", "|$;;R$| ethanol"),
        ("CCO |", "|"),
        ("CCO |a| |b|", "|a| |b|"),
    ],
)
def test_words_after_a_smiles_are_refused(smiles, rest):
    with pytest.raises(ValueError) as error:
        parse_smiles(smiles)
    assert f"is followed by {rest!r}; expected nothing after it, or an extension" in str(error.value)


@pytest.mark.parametrize("smiles", [" CCO", "CCO \t", "CCO\r\n"])
def test_white_space_at_the_ends_is_ignored(smiles):
    assert Chem.MolToSmiles(parse_smiles(smiles)) == "CCO"


@pytest.mark.parametrize(
    ("smiles", "expected"),
    [
        ("CCO |$;;R$|", "CCO"),
        ("C1CCCCCCC=C1 |t:7|", "C1=C/CCCCCCC/1"),  # a trans double bond
        ("C1CCCCCCC=C1 |c:7|", "C1=C\\CCCCCCC/1"),
        ("C[C@H](O)N |w:1.0|", "CC(N)O"),  # a wavy bond: the centre is undefined
        ("CC |^1:0|", "[CH2]C"),  # a radical
        ("C[C@H](O)N |o1:1|", "C[C@@H](N)O"),  # an enhanced stereo group: the mark of the centre counts
        ("C[C@H](O)N |&1:1|", "C[C@@H](N)O"),
        ("C[C@H](O)N |a:1|", "C[C@@H](N)O"),
    ],
)
def test_extensions_are_applied(smiles, expected):
    assert Chem.MolToSmiles(parse_smiles(smiles)) == expected


@pytest.mark.parametrize("extractor", EXTRACTORS, ids=lambda extractor: type(extractor).__name__)
@pytest.mark.parametrize("extension", ["|o1:1|", "|&1:1|", "|a:1|", "|$;;R;$|", "|(0,0,;1,0,;2,0,;1,1,)|"])
def test_features_do_not_encode_enhanced_stereo_labels_and_coordinates(extractor, extension):
    assert extractor.encode(f"C[C@H](O)N {extension}") == extractor.encode("C[C@H](O)N")


def test_coordinates_are_dropped():
    smiles = "CCO |(0,0,;1,0,;2,0,)|"
    assert Chem.MolFromSmiles(smiles).GetNumConformers() == 1 and parse_smiles(smiles).GetNumConformers() == 0


@pytest.mark.parametrize(
    ("smiles", "message"),
    [
        ("C" * (MAX_SMILES_CHARACTERS + 1), f"has 50,001 characters; the limit is {MAX_SMILES_CHARACTERS:,}."),
        ("C" * (MAX_ATOMS + 1), f"has 2,001 atoms; the limit is {MAX_ATOMS:,}."),
        ("[H]" * (MAX_ATOMS + 1), f"has 2,001 atoms; the limit is {MAX_ATOMS:,}."),
        ("C1CC1" * (MAX_RINGS + 1), f"has 301 rings; the limit is {MAX_RINGS}."),
        ("C1CC1" * 1600, "has 4,800 atoms"),
        ("c1ccc2ccccc2c1-" * 160 + "C", f"has 320 rings; the limit is {MAX_RINGS}."),
        (complete_graph(20), f"has 19 neighbours at one atom; the limit is {MAX_NEIGHBOURS}."),
    ],
)
def test_limits(smiles, message):
    start = time.process_time()
    with pytest.raises(ValueError) as error:
        parse_smiles(smiles)
    assert message in str(error.value) and len(str(error.value)) < 300
    assert time.process_time() - start < 2.0


@pytest.mark.parametrize(
    ("smiles", "message"),
    [
        ("[U+200]", "has an atom with charge 200; the limit is 99."),  # RDKit alone reads [U-56]
        ("C[N-256]C", "charge 256"),
        ("[70000C]", "has an atom with isotope 70000; the limit is 999."),  # [4464C]
        ("[UH300]", "has an atom with number of hydrogens 300; the limit is 20."),  # [UH44]
        ("[#200]", "has an atom with atomic number 200; the limit is 118."),  # a RuntimeError
        ("[U]" + "(C)" * 300 + "C", "has 301 neighbours at one atom; the limit is 30."),  # a valence of 44
        ("[U]" + "(C)" * 128, "Pre-condition Violation getValence"),
        ("[U]" + "($[U])" * 32, "Pre-condition Violation getValence"),
    ],
)
def test_numbers_that_rdkit_replaces_by_others_are_refused(smiles, message):
    with pytest.raises(ValueError) as error:
        parse_smiles(smiles)
    assert message in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize(
    "smiles",
    ["[Pt@OH25](F)(Cl)(Br)(I)(N)O", "[13CH3:123]C", "[OH3+]", "[238U+6]", "[#6]", "C1CCCC#CCCC1", "C%(123)CC%(123)"],
)
def test_other_numbers_pass(smiles):
    assert Chem.MolToSmiles(parse_smiles(smiles)) == Chem.CanonSmiles(smiles)


@pytest.mark.parametrize(
    "smiles",
    ["C" * 574, "O[C@@H]1O[C@H](CO)[C@@H](O)[C@H](O)[C@H]1" * 69 + "O", "C" * MAX_ATOMS, "C1CC1" * 100],
    ids=["574 atoms", "69 sugars", "2,000 atoms", "100 rings"],
)
def test_large_molecules_pass(smiles):
    assert parse_smiles(smiles).GetNumAtoms() > 100


@pytest.mark.slow
@pytest.mark.parametrize(
    "smiles",
    [
        "C1CC1" * MAX_RINGS,
        ".".join(["C1CC1"] * MAX_RINGS),
        "O[C@@H]1O[C@H](CO)[C@@H](O)[C@H](O)[C@H]1" * 180 + "O",
        "O" + "[C@@H](C)" * 950 + "N",
        "C1" + "C" * 1_900 + "1",
        complete_graph(MAX_NEIGHBOURS + 1),
        "N[C@@H](C)C(=O)" * 390 + "O",
    ],
    ids=["rings", "fragments", "sugars", "centres", "macrocycle", "complete graph", "peptide"],
)
def test_no_molecule_within_the_limits_takes_long(smiles):
    for extractor in (EXTRACTORS[0], *EXTRACTORS[2:4]):  # the others do less of the same work
        start = time.process_time()
        extractor.encode(smiles)
        assert time.process_time() - start < 10.0, type(extractor).__name__


@pytest.mark.parametrize(
    "smiles", [" " * 1_000_000, "C" * 1_000_000, "C " * 1_000_000, b"CCO", ["CCO"] * 1_000, float("nan")]
)
def test_errors_are_short(smiles):
    with pytest.raises(ValueError) as error:
        parse_smiles(smiles)
    assert len(str(error.value)) < 400 and len(str(error.value).splitlines()) == 1
