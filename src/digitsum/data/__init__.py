"""What stages pass on: splits, files of tensors, and generators. Used by pair, train and evaluate."""
