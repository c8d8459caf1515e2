"""Pairs whose difficulty is known, and settings for few pairs."""

GROUPS = {"O": "alcohol", "N": "amine", "C(=O)O": "acid", "Cl": "chloride", "S": "thiol", "c1ccccc1": "arene"}
COLUMNS = ("text_difficulty", "molecule_difficulty", "difficulty")
DEFINITIONS = ["complexity", "confusability", "density", "alignment"]
FEW = {"neighbours": 3, "reference_steps": 3}


def make_rows(first: int, last: int) -> dict[str, list[str]]:
    kinds = list(GROUPS.items())
    rows: dict[str, list[str]] = {"id": [], "smiles": [], "description": []}
    for i in range(first, last):
        group, name = kinds[i % len(kinds)]
        rows["id"].append(f"m{i}")
        rows["smiles"].append("C" * (1 + i // len(kinds)) + group)
        rows["description"].append(f"The molecule is an {name} of {1 + i // len(kinds)} carbons and {i % 7} roles.")
    return rows


TRAIN, NEW = make_rows(0, 40), make_rows(40, 53)


def reorder(rows, order):
    return {column: [values[i] for i in order] for column, values in rows.items()}
