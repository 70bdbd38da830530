"""Is this GPU to be trusted?  A seeded training, in rounds that must repeat each other to the bit, and what the device says of itself.

Each GPU of the node has a process of its own (`worker`), which the node's process starts, listens to and judges (`node`).
"""
