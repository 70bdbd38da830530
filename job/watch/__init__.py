"""Runs while they work: curves in a terminal, plain lines without one, the page of a run on loopback."""
