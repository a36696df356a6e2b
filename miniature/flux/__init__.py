"""What is FLUX's own in its miniature: the parts and their vocabulary, what the transformer is taught, the stages."""
