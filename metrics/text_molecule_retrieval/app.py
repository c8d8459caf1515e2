"""The Space of the metric: it takes scores and true candidates, and shows the metrics."""

import json

import gradio as gr

from class_hf import TextMoleculeRetrieval

SCORES, TRUE = "[[0.9, 0.5, 0.1],\n [0.2, 0.3, 0.3]]", "[0, 2]"


def compute(scores: str, true: str) -> dict:
    """Returns metrics of scores (Q, P) and columns of the true candidates (Q,), both as JSON."""
    try:
        metric = TextMoleculeRetrieval(keep_in_memory=True)
        return metric.compute(predictions=json.loads(scores), references=json.loads(true))
    except (ValueError, TypeError) as error:
        raise gr.Error(str(error)) from error


demo = gr.Interface(
    fn=compute,
    inputs=[
        gr.Textbox(SCORES, lines=6, label="Scores: one row per query, one column per candidate (JSON)"),
        gr.Textbox(TRUE, label="Column of each query's true candidate, from 0 (JSON)"),
    ],
    outputs=gr.JSON(label="Metrics"),
    title="Text-molecule retrieval",
    description="Hits@1, Hits@10, MRR, mean and median rank; ties get their mean rank. Python "
    "also accepts embeddings: see the README.",
)

if __name__ == "__main__":
    demo.launch()
