"""What all figures share. Used by pair and evaluate."""
