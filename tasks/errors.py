"""Errors that compute code raises on purpose; `orchestrator.errors` continues the tree."""


class RobsweepError(Exception):
    """Anything robsweep raises on purpose; its message is meant to be read by the user."""


class InputError(RobsweepError, ValueError):
    """The user's input is wrong: the message says where, what, and how to fix it."""
