"""What is Ideogram 4's own in its miniature: the parts and captions, what the transformers are taught, the stages."""
