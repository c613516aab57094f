"""A run: configuration, directory, the experiment itself, and its results."""
