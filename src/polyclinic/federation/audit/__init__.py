"""Victims of attacks: updates made by the federation's own functions, and some made to leak."""
