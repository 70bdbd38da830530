"""One attempt on a run: the loop, the checkpoints, the results, and every way out."""
