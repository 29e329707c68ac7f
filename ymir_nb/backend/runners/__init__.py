"""Ways to run an executor, one small module each."""
