"""The network: preprocessing, trunks, fusions. Used by train and evaluate."""
