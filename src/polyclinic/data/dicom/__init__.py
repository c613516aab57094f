"""DICOM files to arrays: headers, stored values, what a screen would show, series, segmentations.

pydicom and its decoders come with the extra `dicom` and are imported when they are first needed.
"""
