"""What people read of a result: a table, a page, a plot. Reports only read: nothing runs here."""
