"""Many clips of one model: our model process against a plain diffusers loop."""
