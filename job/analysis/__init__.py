"""What can be said about runs that are there: comparison, parity of traces, diagnosis, reports.  Reads, and never trains."""
