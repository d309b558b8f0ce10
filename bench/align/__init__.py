"""Training steps of alignment beside TRL."""
