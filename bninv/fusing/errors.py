"""Why a block stays with its own code."""

from __future__ import annotations


class Unfusable(Exception):  # noqa: N818 - no error: the block runs unfused
    """The block's calls cannot be recorded, or not all that they depend on; says why."""
