"""The tables for a terminal hold a line for each epoch, pool and direction."""

from class_hf import CurriculumPlan
from class_hf.plots.tables import plan_table, summary_table


def test_tables():
    plan = CurriculumPlan(num_pairs=40, epochs=3, batch_size=4, order="random")
    assert len(plan_table(plan).splitlines()) == 2 + 3
    row = {"hits@1": 0.5, "hits@10": 1.0, "mrr": 0.75, "mean_rank": 1.5, "candidates": 12}
    table = summary_table({"split": "validation", "pools": {"full": {"text_to_molecule": row}}})
    assert "text to molecule, full (12)" in table and "0.750" in table
