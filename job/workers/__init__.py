"""Several processes that train one network: starting them, agreeing at each step, and telling which one failed.

Worker 0 leads: it alone runs the training loop, on a network whose every call is announced to the others first, which follow.  So
whatever worker 0 decides, by its clock, its store or a signal, is decided for all, and no line of the loop knows of several workers.
"""
