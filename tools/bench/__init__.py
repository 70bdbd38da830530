"""`make bench`: what the job reaches beside what people run instead, in one run, and whether that is what is wanted."""
