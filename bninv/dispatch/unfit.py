"""How an adapter of the table says that a call is not for it."""

from __future__ import annotations


class UnfitError(Exception):
    """These arguments have no operator of bninv's: the call stays PyTorch's."""


def need(condition: bool) -> None:
    """Raise UnfitError unless the condition holds."""
    if not condition:
        raise UnfitError
