"""What the command line checks: models by name, their weights, and photographs to feed them."""
