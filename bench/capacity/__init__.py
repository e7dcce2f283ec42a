"""How many of everything a load takes: a small model from measured costs; see __main__."""
