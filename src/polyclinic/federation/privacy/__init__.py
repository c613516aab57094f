"""Differential privacy: of a site's images or patients (DP-SGD), and of whole sites."""
