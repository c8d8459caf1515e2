"""The demo set: its names are right, its captions depend on the molecule alone, its splits share no scaffold."""

import logging
import re
from collections import Counter
from pathlib import Path

import pytest
from datasets.exceptions import DatasetGenerationError
from rdkit import Chem, RDConfig

from class_hf import load_demo
from class_hf.data.demo import dataset as demo
from class_hf.data.demo.captions import demo_caption
from class_hf.data.demo.facts import article, benzene_pattern, classes, linker, longest_chain, plural, ring_nouns
from class_hf.data.demo.groups import GROUPS, _patterns, functional_groups
from class_hf.data.demo.names import compound_name, condensation
from class_hf.data.demo.parts import metal_compound, mixture
from class_hf.data.demo.prefixes import _table
from class_hf.data.demo.rings import RING_CLASSES, RINGS
from class_hf.data.demo.skeleton import _rings, skeleton
from class_hf.data.demo.vocabulary import COMPONENTS, COMPOSITE_SUBSTITUENTS, LIGANDS, SALTS, SUBSTITUENTS

SOURCE = Path(RDConfig.RDDataDir) / "NCI" / "first_5K.smi"
NAMES = {
    # rings: retained names, suffixes, lowest locants
    "Cc1ccccc1": "toluene",
    "Clc1ccccc1": "chlorobenzene",
    "Oc1ccc(Cl)cc1Br": "2-bromo-4-chlorophenol",
    "OC(=O)c1ccc(cc1Cl)[N+](=O)[O-]": "2-chloro-4-nitrobenzoic acid",
    "OC(=O)c1cccc(c1)C(O)=O": "isophthalic acid",
    "Oc1cc(O)cc(O)c1": "benzene-1,3,5-triol",
    "CC(=O)c1ccc(O)cc1": "4-hydroxyacetophenone",
    "FC(F)(F)c1cc(N)cc(c1)C(F)(F)F": "3,5-bis(trifluoromethyl)aniline",
    "CN(C)c1ccc(C)cc1": "N,N,4-trimethylaniline",
    "Nc1ccc(cc1)S(=O)(=O)Nc1nccs1": "4-amino-N-(1,3-thiazol-2-yl)benzenesulfonamide",
    "Oc1cccc2cccnc12": "quinolin-8-ol",
    "Clc1ncnc2[nH]cnc12": "6-chloropurine",
    "Cn1ccc(C)n1": "1,3-dimethylpyrazole",
    "Cn1nccc1C": "1,5-dimethylpyrazole",
    "O=C1c2ccccc2C(=O)c2ccc(N)cc12": "2-amino-9,10-anthraquinone",
    "CC1(C)C2CCC1(C)C(=O)C2": "1,7,7-trimethylbicyclo[2.2.1]heptan-2-one",
    "CN1C(=O)N(C)c2nc[nH]c2C1=O": "1,3-dimethylxanthine",
    "OC1CCCCC1": "cyclohexanol",
    "c1ccc(cc1)N=Nc1ccncc1": "4-(phenyldiazenyl)pyridine",
    # chains
    "CCCCO": "butan-1-ol",
    "CC(O)CO": "propane-1,2-diol",
    "CC(C)(N)CO": "2-amino-2-methylpropan-1-ol",
    "CCCCC=CCCC(=O)O": "non-4-enoic acid",
    "C#CCO": "prop-2-yn-1-ol",
    "C=C(C)C(=O)O": "methacrylic acid",
    "OC(=O)CC(C)C(O)=O": "2-methylsuccinic acid",
    "CCC(CC)(C(O)=O)C(O)=O": "diethylmalonic acid",
    "OC(=O)CC(O)(CC)C(O)=O": "2-ethyl-2-hydroxysuccinic acid",
    "OC(=O)CC(C(O)=O)C(O)=O": "ethane-1,1,2-tricarboxylic acid",
    "CCC(=O)C": "butan-2-one",
    "CC(C)=O": "acetone",
    "ClCC#N": "chloroacetonitrile",
    "CC(=O)N(CC)CC": "N,N-diethylacetamide",
    "CCN(CC)CCO": "2-(diethylamino)ethanol",
    "OCC(F)(F)C(F)(F)F": "2,2,3,3,3-pentafluoropropan-1-ol",
    "CCN(CC)CCCC(C)Nc1ccnc2cc(Cl)ccc12": "7-chloro-N-[4-(diethylamino)-1-methylbutyl]quinolin-4-amine",
}
CONDENSATIONS = {
    "CCOC(=O)c1ccccc1C(=O)O": ("ester", ("phthalic acid",), ("ethanol",), (True, False)),
    "CC(=O)Oc1ccccc1C(=O)O": ("ester", ("acetic acid",), ("salicylic acid",), (False, False)),
    "CCCCOC(=O)CCC(=O)OCCCC": ("ester", ("succinic acid",), ("butan-1-ol",) * 2, (False, False)),
    "CCOP(=O)(OCC)OCC": ("inorganic ester", ("phosphoric acid",), ("ethanol",) * 3, (False, False)),
    "CC(=O)Nc1ccccc1": ("amide", ("acetic acid",), ("aniline",), (False, False)),
    "CC(C)=NO": ("hydrazone", ("acetone",), ("hydroxylamine",), (False, False)),
    "c1ccccc1C=Nc1ccccc1": ("imine", ("benzaldehyde",), ("aniline",), (False, False)),
}


def mol(smiles: str) -> Chem.Mol:
    return Chem.MolFromSmiles(smiles)


@pytest.fixture(scope="module")
def molecules() -> tuple[demo._Molecule, ...]:
    return demo._molecules(SOURCE)


@pytest.fixture(scope="module")
def small():
    return load_demo(size=300)


# --- vocabulary -------------------------------------------------------------------------------------


def test_every_table_parses_and_has_one_entry_per_structure():
    assert len(_rings()) == len(RINGS) == len({ring.name for ring in RINGS})
    for ring in RINGS:
        assert len(ring.locants.split()) in (0, mol(ring.smiles).GetNumAtoms()), ring
    assert set(RING_CLASSES) <= {ring.name for ring in RINGS}
    assert not set(SUBSTITUENTS) & set(COMPOSITE_SUBSTITUENTS)
    assert len(_table()[0]) == len(SUBSTITUENTS) + len(COMPOSITE_SUBSTITUENTS)
    for smiles in [*COMPONENTS, *SALTS, *LIGANDS]:
        assert Chem.CanonSmiles(smiles) == smiles


def test_every_ring_is_found_in_its_own_structure():
    for ring in RINGS:
        assert [system.ring.name for system in skeleton(mol(ring.smiles)).systems] == [ring.name]


@pytest.mark.parametrize("ring", [ring for ring in RINGS if ring.locants], ids=lambda ring: ring.name)
def test_numbering_leads_back_to_the_structure(ring):
    """A chlorine at any atom gets a locant, and a chlorine at that locant makes the same compound."""
    locants = ring.locants.split()

    def chlorinated(index: int) -> Chem.Mol | None:
        atom = mol(ring.smiles).GetAtomWithIdx(index)
        if atom.GetTotalNumHs() == 0:
            return None
        edited = Chem.RWMol(mol(ring.smiles))
        edited.GetAtomWithIdx(index).SetNumExplicitHs(0)
        edited.AddBond(index, edited.AddAtom(Chem.Atom("Cl")), Chem.BondType.SINGLE)
        Chem.SanitizeMol(edited)
        return edited.GetMol()

    for index in range(len(locants)):
        compound = chlorinated(index)
        if compound is None:
            continue
        name = compound_name(skeleton(compound))
        assert name.parent == ring.name
        ((locant, prefix),) = name.substituents
        assert prefix == "chloro"
        back = chlorinated(locants.index(locant or "1"))
        assert Chem.MolToSmiles(back) == Chem.MolToSmiles(compound)


def test_group_patterns_are_prefiltered_without_loss(molecules):
    for molecule in molecules[::40]:
        structure = mol(molecule.smiles)
        plain = [
            (group, len({frozenset(match[:2]) for match in matches}))
            for group, pattern, _ in _patterns()
            if (matches := structure.GetSubstructMatches(pattern))
        ]
        assert functional_groups(structure) == plain
    assert len(_patterns()) == len(GROUPS)


# --- names and facts --------------------------------------------------------------------------------


@pytest.mark.parametrize(("smiles", "name"), NAMES.items())
def test_names(smiles, name):
    assert str(compound_name(skeleton(mol(smiles)))) == name


@pytest.mark.parametrize(
    "smiles",
    [
        "c1ccc2ccccc2c1-c1ccc(cc1)S(=O)(=O)N=S(C)C",
        "O=c1cc[nH]cc1",
        "OC(=O)C=CC(=O)c1ccc2c(c1)C2",
        "C[N+]1(C)CCCC1",
        "F" + "C(F)(F)" * 25 + "F",
    ],
)
def test_what_the_rules_do_not_reach_has_no_name(smiles):
    assert compound_name(skeleton(mol(smiles))) is None


@pytest.mark.parametrize(("smiles", "expected"), CONDENSATIONS.items())
def test_condensations(smiles, expected):
    assert tuple(condensation(skeleton(mol(smiles)))) == expected


def test_no_condensation_for_lactones_and_ethers():
    assert condensation(skeleton(mol("O=C1CCCO1"))) is None
    assert condensation(skeleton(mol("CCOCC"))) is None


def test_facts_about_the_structure():
    biaryl = skeleton(mol("Oc1ccc(cc1)N=Nc1ccccc1"))
    assert linker(biaryl) == "by an azo group"
    assert ring_nouns(biaryl) == [("benzene ring", 2)]
    assert benzene_pattern(skeleton(mol("Clc1ccc(Br)cc1"))) == "para-disubstituted"
    assert benzene_pattern(skeleton(mol("Clc1ccc(Br)c(C)c1"))) == "1,2,4-trisubstituted"
    assert longest_chain(skeleton(mol("CCCCCCC(C)C"))) == 6
    assert "steroid" in classes(skeleton(mol("CC12CCC3C(CCC4CC(O)CCC34C)C1CCC2")))
    assert ring_nouns(skeleton(mol("C1CSC2NCCN12"))) == [
        ("fused bicyclic ring system with two nitrogen atoms and one sulfur atom", 1)
    ]
    fatty = classes(skeleton(mol("CCCCCCCC(=O)O")))
    assert {"monocarboxylic acid", "straight-chain saturated fatty acid", "medium-chain fatty acid"} <= set(fatty)
    assert plural("ring with one oxygen atom", 2) == "two rings with one oxygen atom"
    assert [article(word) for word in ("ester", "urea", "8-quinolyl", "N-oxide")] == [
        "an ester",
        "a urea",
        "an 8-quinolyl",
        "an N-oxide",
    ]


def test_salts_and_metal_complexes():
    assert mixture(mol("CCN.CCN.OS(=O)(=O)O")) == (
        "sulfate salt",
        "obtained by combining ethanamine with one equivalent of sulfuric acid",
    )
    assert mixture(mol("C[n+]1ccccc1.Cc1ccc(S(=O)(=O)[O-])cc1")) == (
        "tosylate salt",
        "composed of 1-methylpyridinium and 4-toluenesulfonate ions",
    )
    assert mixture(mol("CCO.Oc1ccccc1.CCO"))[0] == "three-component compound"
    assert metal_compound(skeleton(mol("C[CH2][Hg][Cl]"))) == (
        "organomercury compound",
        "in which mercury carries a chloro group and an ethyl group",
    )
    assert metal_compound(skeleton(mol("[NH2][Ni]([NH2])([NH2])[NH2]")))[1].endswith("bound to four ammine ligands")


# --- captions ---------------------------------------------------------------------------------------


def test_a_caption_depends_on_the_molecule_and_the_seed_only():
    aspirin = mol("CC(=O)Oc1ccccc1C(=O)O")
    spellings = {Chem.MolToSmiles(aspirin, doRandom=True, canonical=False) for _ in range(10)}
    assert len(spellings) > 3
    assert len({demo_caption(smiles) for smiles in spellings}) == 1
    assert len({demo_caption("CC(=O)Oc1ccccc1C(=O)O", seed) for seed in range(8)}) > 3


def test_a_caption_tells_stereo_isotopes_and_charge():
    captions = " ".join(demo_caption("C[C@H](O)C(=O)O", seed) for seed in range(8))
    assert "an (S)-configured stereocentre" in captions
    assert "(E)-configured double bond" in " ".join(demo_caption(r"C/C=C/C(=O)O", seed) for seed in range(8))
    assert "two deuterium atoms" in demo_caption("[2H]C([2H])C")
    assert "carbon-13 atom" in demo_caption("[13CH3]CO")
    assert "a single positive charge" in " ".join(demo_caption("C[N+](C)(C)Cc1ccccc1", seed) for seed in range(4))


@pytest.mark.parametrize("smiles", ["C", "[Na+].[Cl-]", "O", "[H][H]", "N#N", "[He]", "[Fe]", "Cl[Pt]Cl", "*C"])
def test_odd_molecules_have_a_caption_too(smiles):
    assert demo_caption(smiles).startswith("The molecule is ")


@pytest.mark.parametrize(
    ("smiles", "message"), [("C1CC(", "'C1CC('"), ("", "empty or missing"), ("not a molecule", "'a molecule'")]
)
def test_a_bad_smiles_is_an_error_that_names_it(smiles, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        demo_caption(smiles)


def test_captions_are_sentences_of_varied_length_and_invent_no_roles(small):
    captions = [caption for split in ("train", "validation", "test") for caption in small[split]["description"][:]]
    assert len(captions) == 300
    words = sorted(len(caption.split()) for caption in captions)
    assert 30 <= words[150] <= 60
    assert words[0] >= 5 and words[-1] < 130
    assert 1 - len(set(captions)) / len(captions) < 0.08
    first_words = Counter(caption.split(". ")[0].split(" that ")[0] for caption in captions)
    assert len(first_words) > 60
    for caption in captions:
        assert re.fullmatch(r"The molecule is .+\.", caption)
        assert not re.search(r"  |\.\.|\bNone\b|\{\}|,,| ,|\bnan\b", caption)
        assert not re.search(r"\b(role|used|isolated|drug|metabolite|inhibitor|agent|toxic)\b", caption)


# --- the data set -----------------------------------------------------------------------------------


def test_the_data_contract(small):
    assert list(small) == ["train", "validation", "test", "pool"]
    for split in ("train", "validation", "test"):
        assert small[split].column_names == ["id", "smiles", "description"]
        assert str(small[split].split) == split
        ids = set(small[split]["id"][:])
        assert ids == {row["id"] for row in small["pool"] if row["split"] == split}
    assert small["pool"].column_names == ["id", "smiles", "split"]
    assert len(small["pool"]) == 300
    assert all(re.fullmatch(r"demo-\d{5}", id_) for id_ in small["pool"]["id"][:])
    assert len(set(small["pool"]["id"][:])) == len(set(small["pool"]["smiles"][:])) == 300
    assert all(Chem.CanonSmiles(smiles) == smiles for smiles in small["pool"]["smiles"][:20])


def test_it_says_that_the_captions_are_synthetic(caplog):
    with caplog.at_level(logging.INFO, logger="class_hf"):
        loaded = load_demo(size=10)
    assert {split: len(rows) for split, rows in loaded.items()} == {
        "train": 8,
        "validation": 1,
        "test": 1,
        "pool": 10,
    }
    for text in (loaded["train"].info.description, caplog.text, load_demo.__doc__):
        assert "synthetic" in text and "nothing about ChEBI-20" in text


def test_a_molecule_is_the_same_at_every_size(small):
    smaller = load_demo(size=60)
    assert {(row["id"], row["split"]) for row in smaller["pool"]} < {
        (row["id"], row["split"]) for row in small["pool"]
    }
    described = {row["id"]: row["description"] for row in small["train"]}
    assert all(described[row["id"]] == row["description"] for row in smaller["train"])


def test_a_second_call_reads_the_cache(small, monkeypatch):
    monkeypatch.setattr(demo, "demo_caption", None)
    again = load_demo(size=300)
    assert again["train"][:] == small["train"][:]
    assert again["train"]._fingerprint == small["train"]._fingerprint
    monkeypatch.setattr(demo, "__version__", "another")
    with pytest.raises(DatasetGenerationError):
        load_demo(size=300)


def test_no_scaffold_is_in_two_splits_and_none_rules_a_split(molecules):
    for seed in (0, 1):
        split_of = demo._split_by_scaffold(molecules, seed)
        assert len(split_of) == len(molecules)
        splits: dict[str, Counter] = {}
        for molecule in molecules:
            splits.setdefault(molecule.scaffold, Counter())[split_of[molecule.id]] += 1
        assert all(len(counts) == 1 for counts in splits.values())
        sizes = Counter(split_of.values())
        for split in ("validation", "test"):
            assert sizes[split] == pytest.approx(0.1 * len(molecules), abs=25)
            assert max(counts[split] for counts in splits.values()) < 0.06 * sizes[split]
        assert splits["c1ccccc1"]["train"] > 0.1 * len(molecules)
        acyclic = Counter(split_of[molecule.id] for molecule in molecules if molecule.scaffold == molecule.smiles)
        assert min(acyclic.values()) > 50


def test_the_split_depends_on_the_seed_and_not_on_the_order_of_the_file(molecules):
    assert demo._split_by_scaffold(molecules, 0) == demo._split_by_scaffold(tuple(reversed(molecules)), 0)
    assert demo._split_by_scaffold(molecules, 0) != demo._split_by_scaffold(molecules, 1)


def test_bad_lines_and_duplicates_are_left_out(tmp_path):
    path = tmp_path / "some.smi"
    path.write_text("CCO\t1\nC1CC(\t2\nOCC\t3\nc1ccccc1CC\t4\n")
    assert demo._molecules(path) == (
        demo._Molecule("demo-00001", "CCO", "CCO"),
        demo._Molecule("demo-00004", "CCc1ccccc1", "c1ccccc1"),
    )


def test_a_missing_file_is_an_error_that_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(RDConfig, "RDDataDir", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="pip install.*load_chebi20"):
        load_demo()


@pytest.mark.parametrize("size", [0, 9, -1, 10**6, 50.5])
def test_a_size_out_of_range_is_an_error(size):
    with pytest.raises(ValueError, match=re.escape(f"size is {size!r}; expected an integer from 10 to")):
        load_demo(size=size)


@pytest.mark.slow
def test_all_captions_of_the_set(molecules):
    data = load_demo()
    captions = [caption for split in ("train", "validation", "test") for caption in data[split]["description"]]
    assert len(captions) == len(molecules)
    counts = Counter(captions)
    assert sum(count for count in counts.values() if count > 1) < 0.08 * len(captions)
    assert all(re.fullmatch(r"The molecule is .+\.", caption) for caption in captions)
    sentences = {sentence for caption in captions for sentence in caption.split(". ")[1:]}
    assert len(sentences) > 2_000
