"""Predictions, metrics and figures of the test split. Used by evaluate."""
