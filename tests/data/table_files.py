"""Files of molecules for the tests of tables."""

from rdkit import Chem

from class_hf.data.molecule_tables import FAULT, PLACE, read_molecules

ROWS = {
    "CID": ["007", "NA", "9"],
    "SMILES": ["CCO", "[Na+].[Cl-]", "C/C=C\\C"],
    "note": ['say "x"', "", "a,b"],
}


def read(path, **options):
    """The table as a dictionary, without the places of the rows."""
    molecules = read_molecules(path, **options)
    return molecules.remove_columns([name for name in (PLACE, FAULT) if name in molecules.column_names]).to_dict()


def put(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def write_csv(path, separator, quote):
    lines = [separator.join(ROWS), *(separator.join(map(quote, row)) for row in zip(*ROWS.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")


def sdf_record(structure, title="", **properties):
    block = Chem.MolToMolBlock(Chem.MolFromSmiles(structure)).split("\n", 1)[1]
    fields = "".join(f">  <{name}>\n{value}\n\n" for name, value in properties.items())
    return f"{title}\n{block}{fields}$$$$\n"
