"""One universal medical-imaging model from many hospitals, and no image leaves any of them."""

__version__ = "0.1.0"
