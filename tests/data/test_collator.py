import numpy as np
import pytest

from class_hf import TextMoleculeCollator
from class_hf.data.collator import ChunkedCollator, group_by_length


@pytest.mark.parametrize("parts", (1, 2, 5, 16))
def test_grouping_keeps_every_row_and_sorts_by_length(parts):
    lengths = np.random.default_rng(0).integers(1, 200, 16)
    groups = group_by_length(lengths, parts)
    assert len(groups) == parts and min(map(len, groups)) >= 1
    order = np.concatenate(groups)
    assert sorted(order.tolist()) == list(range(16)) and (np.diff(lengths[order]) <= 0).all()


def test_parts_are_of_like_cost():
    lengths = np.random.default_rng(0).integers(10, 250, 1024)
    costs = [(lengths[part] * (34 + 5 * lengths[part] / 64)).sum() for part in group_by_length(lengths, 8)]
    assert max(costs) < 1.05 * min(costs)


@pytest.mark.parametrize("lengths", ([1000, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]))
def test_one_long_row_leaves_rows_for_the_others(lengths):
    assert [len(part) for part in group_by_length(np.array(lengths), 4)] == [1, 1, 1, 1]


def test_chunks_together_hold_the_batch(prepared, processor):
    rows = [prepared[index] for index in range(10)]
    collator = TextMoleculeCollator(processor)
    chunks = ChunkedCollator(collator, 4)(rows)["chunks"]
    keys = np.concatenate([chunk["pair_keys"].numpy() for chunk in chunks])
    assert len(chunks) == 3
    assert sorted(map(tuple, keys)) == sorted(map(tuple, collator(rows)["pair_keys"].numpy()))


def test_rows_of_other_collators_keep_their_order():
    assert ChunkedCollator(list, 2)(["a", "b", "c"]) == {"chunks": [["a", "b"], ["c"]]}


def test_cuts_are_at_the_nearest_boundary():
    # 90 tokens cost 47 % of the total, 90 and 50 cost 71 %: the first boundary is nearer to one half.
    groups = group_by_length(np.array([10, 90, 12, 50, 40]), 2)
    assert [group.tolist() for group in groups] == [[1], [3, 4, 2, 0]]
