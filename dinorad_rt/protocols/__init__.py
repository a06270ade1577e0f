"""Protocols judge stored embeddings: `fit` on reference images, `predict_proba` on queries."""
