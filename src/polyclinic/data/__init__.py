"""From a folder of a hospital's files to arrays of one size, splits, and findings about them."""
