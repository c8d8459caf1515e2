"""From a model to retrieval metrics: embeddings, ranks, metrics, and explanations of a score."""
