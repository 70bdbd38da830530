"""`python -m job` is the same as the command `alexnet`."""

from job.cli import main

if __name__ == "__main__":
    main()
