"""The verdicts of many GPUs read together: whose bytes differ, which are slow, hot or silent, and why (`alexnet accept report`)."""
