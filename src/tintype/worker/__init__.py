"""The processes that do the work: launcher, a supervisor per device, and its compute children (docs/processes.md).

Launcher and supervisor belong to the control half, the child to the compute half; they meet in `messages`.
"""
