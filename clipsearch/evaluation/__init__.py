"""Measuring, on arrays only: ranks from embeddings (``ground_truth``), numbers from ranks (``metrics``)."""
