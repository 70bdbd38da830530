"""A run in a store: its objects and their formats, how they get there, and how they are read, listed, delivered and fetched."""
