"""The HTTP half: what fal's clients speak, served by a process that stays small and never imports torch.

Reading order: routes.py (which URL means what), middleware.py (what every request meets first), then one module per
noun. app.py puts them together, server.py runs the process.
"""
