"""Plans and metrics as text for a terminal."""

from collections.abc import Mapping
from typing import Any

from class_hf.curriculum.plan import CurriculumPlan


def plan_table(plan: CurriculumPlan) -> str:
    """Formats a plan with one line for each epoch.

    Args:
        plan: the curriculum plan.

    Returns:
        The table, with a title line and a line of column names.

    >>> plan = CurriculumPlan(num_pairs=40, epochs=2, batch_size=4, order="none")
    >>> len(plan_table(plan).splitlines())
    4
    """
    stages = f" {'stage':>6} {'batch':>7} {'rate':>6} {'sharpness':>9}" if plan.has_stages else ""
    lines = [f"{plan}", f"{'epoch':>6} {'competence':>11} {'pool':>9} {'steps':>7} {'steps so far':>13}{stages}"]
    for row in plan.table():
        line = (
            f"{row['epoch']:>6} {row['competence']:>11.3f} {row['pool_size']:>9,} {row['steps']:>7,} "
            f"{row['steps_so_far']:>13,}"
        )
        if plan.has_stages:
            line += f" {row['stage']:>6} {row['batch_size']:>7,} {row['learning_rate']:>6g} {row['sharpness']:>9g}"
        lines.append(line)
    return "\n".join(lines)


def summary_table(metrics: Mapping[str, Any]) -> str:
    """Formats the metrics with one line for each pool and direction.

    Args:
        metrics: a report of [`~class_hf.evaluation.retrieval_evaluator.RetrievalEvaluator`].

    Returns:
        The table, with a line of column names.

    >>> row = {"hits@1": 0.5, "hits@10": 1.0, "mrr": 0.75, "mean_rank": 1.5, "candidates": 12}
    >>> print(summary_table({"split": "validation", "pools": {"full": {"text_to_molecule": row}}}))
    validation                            Hits@1  Hits@10     MRR  mean rank
    text to molecule, full (12)            0.500    1.000   0.750        1.5
    """
    lines = [f"{metrics['split']:<36} {'Hits@1':>7} {'Hits@10':>8} {'MRR':>7} {'mean rank':>10}"]
    for pool, directions in metrics["pools"].items():
        for direction, row in directions.items():
            lines.append(metrics_line(f"{direction.replace('_', ' ')}, {pool} ({row['candidates']:,})", row))
    return "\n".join(lines)


def metrics_line(name: str, row: Mapping[str, float]) -> str:
    """Formats one line of [`summary_table`].

    Args:
        name: the text of the first column.
        row: metrics, with `hits@1`, `hits@10`, `mrr` and `mean_rank`.

    Returns:
        The line.
    """
    return f"{name:<36} {row['hits@1']:>7.3f} {row['hits@10']:>8.3f} {row['mrr']:>7.3f} {row['mean_rank']:>10.1f}"
