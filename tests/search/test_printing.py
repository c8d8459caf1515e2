"""The table of hits that a shell shows."""

from class_hf.search.printing import hit_table
from class_hf.search.query import Hit, MoleculeFilter


def test_the_columns_of_a_condition_are_in_the_table():
    where = 'logS < -2 and `vendor name` != "x" and logS > -20 and id != "x" and description != "x" and sold = true'
    columns = MoleculeFilter(where=where).columns
    assert columns == ("logS", "vendor name", "id", "description", "sold")
    fields = {"vendor name": "A  and\nB" + "b" * 99, "logS": -2.180000066757202, "sold": True, "description": "x" * 99}
    hits = [Hit(1, 0.5, "first", "C" * 99, fields), Hit(2, 0.25, "2", "CCO", fields | {"logS": -12})]
    lines = hit_table(hits, 120, columns=columns).splitlines()
    assert lines[0].split() == ["rank", "score", "id", "logS", "vendor", "name", "sold", "SMILES", "caption"]
    assert lines[1].split()[3:8] == ["-2.18", "A", "and", "Bbbbbbbbbbbbbbb...", "true"]
    assert lines[1].index("-2.18") + 5 == lines[2].index("-12") + 3  # numbers end in one place
    assert all(len(line) == 120 for line in lines[1:])
