"""Training: batches, loss, optimizer, loop, checkpoints. Used by train."""
