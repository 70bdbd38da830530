"""How fast this machine trains: the bare step of each engine beside the matrix products that its library can do.

Engines take turns, each in a process of its own, and every ratio is of two turns that followed one another.  Where others used the machine
meanwhile, no ratio is given.
"""
