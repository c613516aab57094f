"""Painting: a diffusion model fills regions of brain MRI with the tissue that is asked for."""
