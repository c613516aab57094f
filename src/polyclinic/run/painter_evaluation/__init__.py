"""Judging painters on held-out patients: edits planned once, painted by every variant, tabled."""
