"""MNIST as published: where its files come from, their format, their digests. Used by fetch and pair."""
