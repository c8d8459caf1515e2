"""SDF files: structures, titles, properties, and records that cannot be read."""

import gzip
import re
import time

import datasets
import pytest
from rdkit import Chem
from table_files import put, read, sdf_record

from class_hf.data.molecule_tables import FAULT, PLACE, read_molecules
from class_hf.data.sdf import number_fault


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_structures_are_those_of_rdkit(tmp_path):
    smiles = ["C[C@H](N)C(=O)O", "C/C=C\\C", "[Na+].[Cl-]", "c1ccc2[nH]ccc2c1", "[2H]C([2H])O", "C[N+](C)(C)C"]
    with Chem.SDWriter(str(tmp_path / "a.sdf")) as writer:
        for text in smiles:
            writer.write(Chem.MolFromSmiles(text))
    wanted = [Chem.MolToSmiles(molecule) for molecule in Chem.SDMolSupplier(str(tmp_path / "a.sdf"))]
    assert read(tmp_path / "a.sdf")["smiles"] == wanted == [Chem.CanonSmiles(text) for text in smiles]


def test_the_structure_and_title_of_sdf_win(tmp_path, caplog):
    put(tmp_path / "a.sdf", sdf_record("CC(=O)Oc1ccccc1C(=O)O", "CHEMBL25", smiles="CCO", id="7", SMILES="CCC"))
    assert read(tmp_path / "a.sdf") == {
        "smiles": ["CC(=O)Oc1ccccc1C(=O)O"],
        "id": ["CHEMBL25"],
        "smiles_of_table": ["CCO"],
        "id_of_table": ["7"],
        "SMILES_of_table": ["CCC"],
    }
    assert "columns were renamed" in caplog.text and "'smiles' to 'smiles_of_table'" in caplog.text
    put(tmp_path / "b.sdf", sdf_record("CCO", "x", isomeric_smiles="CCC", PUBCHEM_SMILES="CCN", molecule="CN"))
    assert read(tmp_path / "b.sdf")["smiles"] == ["CCO"]
    assert read(tmp_path / "b.sdf", smiles_column="PUBCHEM_SMILES")["smiles"] == ["CCN"]


@pytest.mark.parametrize(
    ("properties", "wanted"),
    [
        ({"chembl_id": "CHEMBL545"}, "CHEMBL545"),
        ({"ChEBI ID": "CHEBI:16236", "Definition": "An alcohol."}, "CHEBI:16236"),
        ({"PUBCHEM_COMPOUND_CID": "702"}, "702"),
        ({"DRUGBANK_ID": "DB00898", "NAME": "ethanol"}, "DB00898"),
        ({"Molecule ChEMBL ID": "CHEMBL545"}, "CHEMBL545"),
        ({"weight": "46"}, None),
    ],
)
def test_the_usual_ids_are_taken_where_titles_are_empty(tmp_path, properties, wanted):
    put(tmp_path / "a.sdf", sdf_record("CCO", **properties))
    assert read(tmp_path / "a.sdf")["id"] == [wanted]
    put(tmp_path / "b.sdf", sdf_record("CCO", "title", **properties))
    assert read(tmp_path / "b.sdf")["id"] == ["title"]
    if wanted:
        put(tmp_path / "a.csv", f"smiles,{','.join(properties)}\nCCO,{','.join(properties.values())}\n")
        assert read(tmp_path / "a.csv")["id"] == [wanted]


def test_sdf_records_that_cannot_be_read_are_named(tmp_path, capfd):
    no_atoms = "\n  Ketcher\n\n  0  0  0     0  0            999 V2000\nM  END\n>  <ChEBI ID>\nCHEBI:192499\n\n$$$$\n"
    broken = "broken one\n     x\n\n  2  1  0  0  0  0  0  0  0  0999 V2000\n    0.0 0.0 C\nM  END\n$$$$\n"
    valence = sdf_record("CC(C)(C)C", "five").replace("  1  2  1  0", "  1  2  3  0")
    put(tmp_path / "a.sdf", sdf_record("CCO", "1") + broken + no_atoms + valence + sdf_record("CCN", "2"))
    molecules = read_molecules(tmp_path / "a.sdf")
    assert molecules["smiles"][:] == ["CCO", None, None, None, "CCN"]
    places = ["record 1 '1'", "record 2 'broken one'", "record 3 'CHEBI:192499'", "record 4 'five'", "record 5 '2'"]
    assert molecules[PLACE][:] == [f"a.sdf {place}" for place in places]
    faults = molecules[FAULT][:]
    assert faults[1].startswith("RDKit cannot read the mol block (") and faults[2] == "its mol block has no atoms"
    assert faults[3].startswith("RDKit cannot read the mol block (") and len(faults[3]) > 50
    assert capfd.readouterr().err == ""


def test_other_characters_in_a_mol_block_are_refused(tmp_path):
    record = sdf_record("CCO", "a").replace("  3  2  0", "\u200b  3  2  0")
    molecules = read_molecules(put(tmp_path / "a.sdf", record + sdf_record("CCN", "\u03b2-amine")))
    assert molecules["smiles"][:] == [None, "CCN"] and molecules["id"][:] == ["a", "\u03b2-amine"]
    assert molecules[FAULT][0].startswith("RDKit cannot read the mol block (")


@pytest.mark.parametrize(
    "between",
    [
        "",  # directly after M  END
        "> <x>\n1\n\n",  # after a property
        "> <x>\n1\n",  # after a property without its blank line
        "$$$\n",  # a separator that is cut
        "M  END\n",
    ],
)
@pytest.mark.parametrize("cut", [False, True])
def test_concatenated_mol_blocks_are_counted(tmp_path, between, cut):
    blocks = [Chem.MolToMolBlock(Chem.MolFromSmiles(smiles)) for smiles in ("CCO", "CCN")]
    text = between.join(blocks)
    content = text.removesuffix("M  END\n") if cut else text
    (tmp_path / "a.sdf.gz").write_bytes(gzip.compress(content.encode()))
    faults = read_molecules(tmp_path / "a.sdf.gz")[FAULT][:]
    assert len(faults) == 1 and re.fullmatch(r"holds \d mol blocks; separate them by lines with .*", faults[0])


def test_a_mol_block_has_the_limits_of_a_smiles(tmp_path):
    rings = Chem.MolFromSmiles("C1CC1" * 320, sanitize=False)
    rings.AddConformer(Chem.Conformer(rings.GetNumAtoms()))  # without one, RDKit computes a layout for six seconds
    put(tmp_path / "a.sdf", Chem.MolToV3KMolBlock(rings, kekulize=False) + "$$$$\n")
    assert read_molecules(tmp_path / "a.sdf")[FAULT][:] == ["its mol block has at least 320 rings; the limit is 300"]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("M  CHG  1   2 200", "charge 200; the limit is 15"),  # RDKit alone reads -56
        ("M  CHG  1   2-200", "charge -200; the limit is 15"),
        ("M  ISO  2   1  13   2 999\nM  ISO  1   17000", "isotope 7000; the limit is 999"),
    ],
)
def test_numbers_that_rdkit_replaces_by_others_are_refused(tmp_path, line, fault):
    record = sdf_record("CCO", "x").replace("M  END", f"{line}\nM  END")
    put(tmp_path / "a.sdf", sdf_record("CC", "y") + record)
    molecules = read_molecules(str(tmp_path / "a.sdf"))
    assert molecules[FAULT][:] == [None, f"its mol block has an atom with {fault}"]


def test_numbers_of_v3000_and_of_atom_lines(tmp_path):
    block = Chem.MolToV3KMolBlock(Chem.MolFromSmiles("[13CH3-]"))
    assert "CHG=-1" in block and "MASS=13" in block
    assert number_fault(block) is None
    assert number_fault(block.replace("CHG=-1", "CHG=-300")) == "has an atom with charge -300; the limit is 15"
    assert number_fault(block.replace("MASS=13", "MASS=70000")) == "has an atom with isotope 70000; the limit is 999"
    line = "    0.0000    0.0000    0.0000 U   0  0  0  0  0{}  0  0  0  0  0  0\n"
    assert [number_fault(line.format(valence)) for valence in ("  0", " 15")] == [None, None]
    assert number_fault(line.format("300")) == "has an atom with valence 300; the limit is 20"


def test_mol_blocks_without_a_separator_are_found(tmp_path):
    blocks = "".join(Chem.MolToMolBlock(Chem.MolFromSmiles(smiles)) for smiles in ("CCO", "CCN", "CCC"))
    put(tmp_path / "a.sdf", blocks)
    molecules = read_molecules(tmp_path / "a.sdf")
    assert molecules["smiles"][:] == [None]
    assert molecules[FAULT][:] == ["holds 3 mol blocks; separate them by lines with $$$$"]
    assert read(put(tmp_path / "one.mol", Chem.MolToMolBlock(Chem.MolFromSmiles("CCO"))))["smiles"] == ["CCO"]


def test_latin_1_in_an_sdf_names_the_record(tmp_path):
    text = sdf_record("CCO", "m1", note="a") + sdf_record("CCN", "m2", note="5 µM") + sdf_record("CCC", "m3")
    (tmp_path / "a.sdf").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"record 2 'm2', property 'note': a.sdf line \d+ is not UTF-8"):
        read_molecules(tmp_path / "a.sdf")
    assert read(tmp_path / "a.sdf", on_error="drop")["note"] == ["a", "5 µM", None]
    assert read(tmp_path / "a.sdf", encoding="latin-1")["note"] == ["a", "5 µM", None]


def test_values_of_several_lines_and_odd_properties(tmp_path):
    record = sdf_record("CCO", "a").removesuffix("$$$$\n")
    record += "> 25  <MELTING.POINT>  (1)\n179.0\n\n>  <comment>\nfirst\n> second <x>\n\n>  <empty>\n\n$$$$\n"
    molecules = read(put(tmp_path / "a.sdf", record.replace("\n", "\r\n")))
    assert molecules["MELTING.POINT"] == ["179.0"] and molecules["empty"] == [""]
    assert molecules["comment"] == ["first\n> second <x>"]


def test_a_repeated_property_is_a_fault_of_its_record(tmp_path):
    block = Chem.MolToMolBlock(Chem.MolFromSmiles("CCO"))
    put(tmp_path / "a.sdf", f"{block}> <x>\n1\n\n> <x>\n2\n\n$$$$\n{block}> <x>\n1\n\n> <X>\n2\n\n$$$$\n")
    assert read_molecules(tmp_path / "a.sdf")[FAULT][:] == ["has the property 'x' twice", None]


@pytest.mark.parametrize("version", ["V2000", "V3000"])
def test_a_knot_of_rings_is_refused_before_rdkit_searches_them(tmp_path, version):
    """RDKit searches rings without sanitisation, too: 1,900 atoms took 30 s and 11 GB."""
    size, bonds = (400, 799) if version == "V2000" else (1900, 3799)
    pairs = [(atom, (atom + step) % size) for step in (1, 131) for atom in range(size)][:bonds]
    if version == "V2000":
        lines = [f"{size:3d}{bonds:3d}  0  0  0  0  0  0  0  0999 V2000"]
        lines += ["    0.0000    0.0000    0.0000 C   0  0"] * size
        lines += [f"{first + 1:3d}{second + 1:3d}  1  0" for first, second in pairs]
    else:
        lines = ["  0  0  0     0  0            999 V3000", "M  V30 BEGIN CTAB"]
        lines += [f"M  V30 COUNTS {size} {bonds} 0 0 0", "M  V30 BEGIN ATOM"]
        lines += [*(f"M  V30 {atom + 1} C 0 0 0 0" for atom in range(size)), "M  V30 END ATOM", "M  V30 BEGIN BOND"]
        lines += [f"M  V30 {row} 1 {first + 1} {second + 1}" for row, (first, second) in enumerate(pairs, start=1)]
        lines += ["M  V30 END BOND", "M  V30 END CTAB"]
    put(tmp_path / "a.sdf", "\n".join(["knot", "", "", *lines, "M  END", "$$$$", ""]))
    started = time.process_time()
    fault = f"its mol block has at least {bonds - size + 1:,} rings; the limit is 300"
    assert read_molecules(tmp_path / "a.sdf")[FAULT][:] == [fault]
    assert time.process_time() - started < 2
