"""Images paired with numbers, and the three splits. Used by pair."""
