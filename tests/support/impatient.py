"""`python -m tests.support.impatient train …`: the command, whose workers wait for each other for 8 s only."""

from job.engines import exchange

if __name__ == "__main__":
    exchange.JOIN_SECONDS = 8.0  # before others import it
    from job.cli import main

    main()
