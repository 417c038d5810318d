"""The comparison of two revisions: `digitsum report`. Used by no stage."""
