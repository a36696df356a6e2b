"""How alike the pictures of a LoRA are to the photos it was trained on, measured: which checkpoint is the good one."""
