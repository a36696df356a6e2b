"""The HTTP face: what fal's clients speak, served by a process that stays small and never imports torch.

Reading order: routing.py (which URL means what), app.py (what happens to every request), then one module per noun.
"""
