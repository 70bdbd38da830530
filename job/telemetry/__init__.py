"""What the machine does while a run works: GPUs, the container, the host, this process.  Imports nothing of ours."""
