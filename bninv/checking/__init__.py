"""How `bninv.check` finds out: which batches run, how bits are compared, and who is to blame."""
