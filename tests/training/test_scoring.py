"""The difficulty of a resumed run is that of its first start."""

import numpy as np
import pytest
from trainer_parts import arguments

from class_hf.training.scoring import DIFFICULTY_FILE, add_difficulty, difficulty_arrays

COLUMNS = ("text_difficulty", "molecule_difficulty", "difficulty")


@pytest.mark.parametrize("definition", ("complexity", "json:JSONDecoder"))
def test_stored_scores_of_a_definition_of_the_users_own_are_announced(tmp_path, pairs, capsys, definition):
    rows = pairs.remove_columns([name for name in COLUMNS if name in pairs.column_names])
    stored = rows
    for column in COLUMNS:
        stored = stored.add_column(column, np.linspace(0, 1, len(rows)))
    saved = tmp_path / DIFFICULTY_FILE
    np.savez(saved, **difficulty_arrays({"train": stored, "validation": stored}))
    splits = {"train": rows, "validation": rows}
    scored = add_difficulty(splits, arguments(tmp_path), definition=[definition, "alignment"], saved=saved)
    assert scored["train"]["difficulty"][:] == stored["difficulty"][:]
    line = f"difficulty of {saved}: later changes of the code of json:JSONDecoder have no effect\n"
    assert capsys.readouterr().out == (line if ":" in definition else "")
