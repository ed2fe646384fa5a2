"""`make gpu`: proves and measures everything on this machine's GPU. run.py is the command."""
