"""The images: datasets, their sources, the official binary layout, copies in a bucket, pictures from files.  Knows nothing of runs."""
