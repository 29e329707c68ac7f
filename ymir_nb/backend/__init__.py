"""The library under the notebook: a pure core, the world, records and flows."""
