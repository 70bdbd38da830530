"""What touches the outside: stores, checkpoints, datasets, figures, event files."""
