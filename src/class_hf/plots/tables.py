"""Plans and metrics as text for a terminal."""

from typing import Any

from class_hf.curriculum.plan import CurriculumPlan


def plan_table(plan: CurriculumPlan) -> str:
    """The plan, an epoch a line."""
    lines = [f"{plan}", f"{'epoch':>6} {'competence':>11} {'pool':>9} {'steps':>7} {'steps so far':>13}"]
    for row in plan.table():
        lines.append(
            f"{row['epoch']:>6} {row['competence']:>11.3f} {row['pool_size']:>9,} {row['steps']:>7,} "
            f"{row['steps_so_far']:>13,}"
        )
    return "\n".join(lines)


def summary_table(metrics: dict[str, Any]) -> str:
    """The metrics of a [`RetrievalEvaluator`], a pool and direction a line."""
    lines = [f"{metrics['split']:<36} {'Hits@1':>7} {'Hits@10':>8} {'MRR':>7} {'mean rank':>10}"]
    for pool, directions in metrics["pools"].items():
        for direction, row in directions.items():
            lines.append(metrics_line(f"{direction.replace('_', ' ')}, {pool} ({row['candidates']:,})", row))
    return "\n".join(lines)


def metrics_line(name: str, row: dict[str, Any]) -> str:
    """One line of [`summary_table`]."""
    return f"{name:<36} {row['hits@1']:>7.3f} {row['hits@10']:>8.3f} {row['mrr']:>7.3f} {row['mean_rank']:>10.1f}"
