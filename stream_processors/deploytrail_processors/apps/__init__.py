"""Thin Faust apps: load state, call a rule, write the result."""
