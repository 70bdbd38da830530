"""What a step computes, recorded layer by layer in a file, and two such files compared."""
