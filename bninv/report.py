"""A CheckResult as a table for people (rich)."""
from rich.table import Table
def render(r): return Table()
def to_text(r): return ""
