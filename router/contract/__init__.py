"""Values, the Backend protocol and the error tree: the ground floor, which imports nothing from above."""
