"""Faults: the real process over the wire of its exchange, on a line that breaks, and killed with orders out there."""
