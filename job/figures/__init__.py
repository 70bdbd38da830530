"""Everything that is drawn: one house style and palette, the figures of a run, those of its resources, TensorBoard's event files."""
