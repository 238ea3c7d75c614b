"""Training and evaluation of the shipped tiny text/image-to-video model."""
