"""Elements of one frame: of its functional groups, of those that all frames share, or of the file.

PS3.3 C.7.6.16 keeps in groups what older files keep beside the pixels.
"""

from typing import Any

from polyclinic.data.dicom.header import quiet


def group(dataset: Any, sequence: str, frame: int) -> Any:
    """The first item of the group `sequence` of a frame, of all frames, or else `dataset`."""
    with quiet():
        per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or ()
        shared = dataset.get("SharedFunctionalGroupsSequence") or ()
        own = [per_frame[frame]] if frame < len(per_frame) else []
        for holder in (*own, *shared):
            found = holder.get(sequence)
            if found:
                return found[0]
    return dataset
