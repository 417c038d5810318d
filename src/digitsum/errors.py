"""Failures that end in one line which names the cause and the cure."""


class DigitsumError(Exception):
    """A failure that its reader can cure: what was found, what was expected, what to do."""
