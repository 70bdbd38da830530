"""What the machine does while a run works: GPUs, the container, the host, this process.  Of ours it imports the
forms of what it stores, `job.core.resource_records`, and nothing else."""
