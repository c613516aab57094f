"""What painted images are worth: one idea a file, all of them functions of NumPy arrays.

Images are (H, W) or (Z, H, W), slices first, and a region is a bool array of the same shape: what
was painted. A measure that is undefined (of an empty region, 0 of 0) is NaN, silently.
"""
