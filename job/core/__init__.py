"""Pure rules of the job: recipe, architecture, sampling, schedule, metrics.  NumPy at most, no I/O."""
