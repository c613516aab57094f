"""The ways in which `fuzz_readers.py` damages a site's folder, one function a kind.

Each takes the folder and a random generator, and changes the folder in place. What a kind needs and
a site does not have (a table, a volume) it adds: a reader meets any file anywhere.
"""

import contextlib
import gzip
import json
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fuzz_headers import (
    HUGE,
    MIB,
    as_nifti2,
    claim_dicom,
    claim_nifti,
    claim_nifti2,
    claim_npy,
    deflated_dicom,
    nifti_of,
    npz_bomb,
    packed_zeros,
    png_of_zeros,
)

Fault = Callable[[Path, np.random.Generator], None]

LONGEST_PATH = 4000
OUTSIDE = "beside"
"""The folder next to the site's that links lead to; nothing may be written to it."""


def truncate(folder: Path, rng: np.random.Generator) -> None:
    """A file ends early, or is empty."""
    path, data = _any_file(folder, rng)
    path.write_bytes(data[: int(len(data) * rng.choice([0.0, rng.random(), rng.random(), 0.99]))])


def flip_bits(folder: Path, rng: np.random.Generator) -> None:
    """1 to 64 bits are flipped, half the time in the head of the file alone."""
    path, data = _any_file(folder, rng)
    changed = np.frombuffer(data, np.uint8).copy()
    within = min(len(changed), 512) if rng.random() < 0.5 else len(changed)
    if within:
        places = rng.integers(0, within, 2 ** int(rng.integers(0, 7)))
        np.bitwise_xor.at(changed, places, (1 << rng.integers(0, 8, len(places))).astype(np.uint8))
    path.write_bytes(changed.tobytes())


def unpacked_bits(folder: Path, rng: np.random.Generator) -> None:
    """Bits within a compressed volume or archive are flipped, its checksums made right again."""
    packed = [path for path in _files(folder) if path.name.endswith((".nii.gz", ".npz", ".png"))]
    if not packed:
        flip_bits(folder, rng)
        return
    path = packed[rng.integers(len(packed))]
    data = path.read_bytes()
    with contextlib.suppress(OSError, EOFError, zlib.error, zipfile.BadZipFile, KeyError):
        if path.name.endswith(".nii.gz"):
            path.write_bytes(gzip.compress(_flipped(gzip.decompress(data), rng, 400), mtime=0))
        elif path.name.endswith(".npz"):
            _rewrite_npz(path, lambda raw: _flipped(raw, rng, 128))
        else:
            path.write_bytes(_png_chunks(data, rng))


def splice(folder: Path, rng: np.random.Generator) -> None:
    """A piece of a file is cut out, doubled, zeroed, made noise, or taken from another file."""
    path, data = _any_file(folder, rng)
    start = int(rng.integers(0, len(data) + 1))
    stop = min(len(data), start + 2 ** int(rng.integers(0, 13)))
    piece = data[start:stop]
    other = _any_file(folder, rng)[1]
    middle = (
        b"",
        piece * 2,
        bytes(len(piece)),
        rng.bytes(len(piece)),
        b"\xff" * len(piece),
        other[: len(piece)],
    )[rng.integers(6)]
    path.write_bytes(data[:start] + middle + data[stop:])


def swap(folder: Path, rng: np.random.Generator) -> None:
    """A file holds what another one should."""
    one, data = _any_file(folder, rng)
    other, more = _any_file(folder, rng)
    one.write_bytes(more)
    if rng.random() < 0.5:
        other.write_bytes(data)


def head(folder: Path, rng: np.random.Generator) -> None:
    """A header claims what is not so: sizes, types, offsets, from nothing to 2**32."""
    path, data = _any_file(folder, rng)
    data = bytearray(data)
    if path.name.endswith(".nii.gz"):
        with contextlib.suppress(OSError, EOFError, zlib.error):
            path.write_bytes(gzip.compress(_claimed(gzip.decompress(bytes(data)), rng), mtime=0))
    elif path.name.endswith(".nii"):
        path.write_bytes(_claimed(bytes(data), rng))
    elif path.name.endswith(".npz"):
        with contextlib.suppress(OSError, EOFError, zlib.error, zipfile.BadZipFile, KeyError):
            _rewrite_npz(path, lambda raw: claim_npy(raw, rng))
    elif data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) > 33:
        width, height = rng.choice(HUGE), rng.choice(HUGE)
        depth, kind = rng.choice([1, 2, 4, 8, 16, 77]), rng.choice([0, 2, 3, 4, 6, 9])
        body = b"IHDR" + struct.pack(">IIBB", width, height, depth, kind) + bytes(data[26:29])
        path.write_bytes(bytes(data[:12]) + body + struct.pack(">I", zlib.crc32(body)) + data[33:])
    elif data[128:132] == b"DICM":
        claim_dicom(path, rng)
    else:
        for _ in range(int(rng.integers(1, 4))):
            place = int(rng.integers(0, max(1, min(len(data), 96))))
            claim = struct.pack("<>"[rng.integers(2)] + "I", int(rng.choice(HUGE)))
            data[place : place + 4] = claim
        path.write_bytes(bytes(data))


def bomb(folder: Path, rng: np.random.Generator) -> None:
    """A small file that unpacks to up to 320 MiB, or says so, under a name that a reader opens."""
    path, _ = _any_file(folder, rng)
    size = int(MIB * 2 ** rng.integers(4, 9))
    kind = int(rng.integers(5))
    if kind == 0 or path.name.endswith((".nii.gz", ".nii")):
        target = path if path.name.endswith(".nii.gz") else path.with_name("bomb.nii.gz")
        target.write_bytes(packed_zeros(nifti_of(size, rng), size, gzipped=True))
    elif kind == 1 or path.name.endswith(".npz"):
        target = path if path.name.endswith(".npz") else path.with_name("bomb.npz")
        npz_bomb(target, size, rng)
    elif kind == 2:
        side = int(np.sqrt(size))
        path.with_suffix(".png").write_bytes(png_of_zeros(side, side))
    elif kind == 3:
        path.with_name("bomb.dcm").write_bytes(deflated_dicom(size))
    else:
        text = b"path,label\n" + b"a.png,b\n" * 200_000
        path.with_name("labels.csv").write_bytes(text)


def links(folder: Path, rng: np.random.Generator) -> None:
    """Links out of the folder, to devices, to nothing, in circles; pipes in the place of files."""
    path, _ = _any_file(folder, rng)
    outside = folder.parent / OUTSIDE
    kind = int(rng.integers(9))
    if kind < 5:
        path.unlink()
        target = (outside / "secret.png", "/dev/zero", path.name, "lost", "/dev/stdin")[kind]
        path.symlink_to(target)
    elif kind == 5:
        path.unlink()
        os.mkfifo(path)
    elif kind == 6:
        (path.parent / "loop").symlink_to(folder, target_is_directory=True)
        (folder / "out").symlink_to(outside, target_is_directory=True)
    elif kind == 7:
        os.mkfifo(path.with_name("pipe"))
        os.mkfifo(folder / "pipe.png")
    else:
        path.with_name("far.png").symlink_to("../" * 40 + "etc/passwd")


def names(folder: Path, rng: np.random.Generator) -> None:
    """Names of files and folders that nobody expects."""
    path, data = _any_file(folder, rng)
    end = "".join(path.suffixes)
    odd = [
        f"new\nline{end}",
        f"\x1b[31mred{end}",
        f"a{end}#3",
        f"#0{end}",
        f"a#1#2{end}",
        f"{'x' * (255 - len(end))}{end}",
        "\u00e9" * 100 + end,
        f"-rf{end}",
        f"a:b{end}",
        f" {end}",
        f"..a{end}",
        f"con{end}",
        f"\u202eabc{end}",
        f"a\\b{end}",
        f"%s{{}}{end}",
        f"a{end.upper()}",
        f"\U0001f600{end}",
        f"a{end}/inner{end}",
        f"site.npz{end}",
        f"images{end}",
    ]
    name = odd[rng.integers(len(odd))]
    kind = int(rng.integers(4))
    if kind == 0:
        raw = os.fsencode(path.parent) + b"/\xff\xfe" + os.fsencode(end)
        Path(os.fsdecode(raw)).write_bytes(data)
    elif kind == 1 and path.parent != folder:
        path.parent.rename(path.parent.with_name(name.replace("/", "_")[:80]))
    else:
        target = path.with_name("x").parent / name
        with contextlib.suppress(OSError):
            path.unlink()
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)


def nesting(folder: Path, rng: np.random.Generator) -> None:
    """Folders within folders, beyond what a path may hold; a folder in the place of a file."""
    path, data = _any_file(folder, rng)
    depth, called = [(5, "d"), (40, "d"), (400, "d"), (1500, "d"), (30, "d" * 200)][rng.integers(5)]
    if rng.random() < 0.2:
        path.unlink()
        path.mkdir()
        (path / path.name).write_bytes(data)
        return
    here = os.open(path.parent, os.O_RDONLY)
    try:
        for _ in range(depth):
            os.mkdir(called, dir_fd=here)
            there = os.open(called, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = there
        file = os.open(path.name, os.O_WRONLY | os.O_CREAT, dir_fd=here)
        os.write(file, data)
        os.close(file)
    finally:
        os.close(here)


def table(folder: Path, rng: np.random.Generator) -> None:
    """Oddities of a CSV or TSV file, or of a list of classes."""
    found = [path for path in _files(folder) if path.suffix in (".csv", ".tsv", ".txt")]
    path = found[rng.integers(len(found))] if found else folder / "labels.csv"
    text = path.read_text("utf-8", "replace") if found else "path,label\nx.png,a\n"
    lines = text.splitlines() or [""]
    row = int(rng.integers(len(lines)))
    cells = [
        "../../etc/passwd", "/etc/passwd", "a\0b.png", '"', '"never closed', "=cmd|' /C calc'!A0",
        "nan", "inf", "1e999", "-0", "9" * 5000, "x" * 200_000, "a|" * 3000, "\u2028", "\ufeff",
        "a\nb", '"a\nb"', "\x1b[2J", "", ",,,,", ";;", "\t\t\t", "\u0000", "|", "a||b",
        "x" * 5000 + ".png", "images", ".", "..", "images/../images/00000.png", "~/x", "a#3",
    ]  # fmt: skip
    cell = cells[rng.integers(len(cells))]
    kind = int(rng.integers(12))
    if kind < 4:
        parts = [lines[row]]
        mark = next((mark for mark in ("\t", ";", ",") if mark in lines[row]), ",")
        parts = lines[row].split(mark)
        parts[rng.integers(len(parts))] = cell
        lines[row] = mark.join(parts)
    elif kind == 4:
        lines.insert(row, cell)
    elif kind == 5:
        lines = lines[:1] + [f"{n}.png,label{n % 977}" for n in range(20_000)]
    elif kind == 6:
        lines[0] = ",".join([lines[0], *(f"c{n}" for n in range(30_000))])
    elif kind == 7:
        lines = lines[:1] + [f"{n}.png,a{n}|b{n}" for n in range(6000)]
    elif kind == 8:
        lines = lines[:1] + lines[1:] * 50
    elif kind == 9:
        lines.reverse()
    code = ("utf-8", "utf-8", "utf-16", "latin-1", "utf-8-sig", "utf-32")[rng.integers(6)]
    end = ("\n", "\n", "\r\n", "\r", "\v", "\n\n")[rng.integers(6)]
    path.write_bytes(end.join(lines).encode(code, "surrogatepass" if "utf" in code else "replace"))


def json_table(folder: Path, rng: np.random.Generator) -> None:
    """Oddities of `dataset.json`."""
    path = folder / "dataset.json"
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        content = {"channel_names": {"0": "a"}, "labels": {"background": 0, "b": 1}}
    odd = [
        None, True, [], {}, "", "0", 0, -1, 1.5, 10**30, [0], {"a": 0}, {"0": "x"}, "\ud800",
        "a\nb", {"background": 0, "a": True}, {"background": 0, "a": 0},
        {"background": 0, "a": 300}, {"background": 0, "a": [1, 2]},
        {"background": 0, "\ud800": 1}, {"background": 0, "\x1b[2J": 1},
        {"background": 0, "": 1}, {"0": "b", "00": "c"}, {"0": "b", "-1": "c"},
        {"0": None, "1": []},
        {"\u0663": "b", "0": "c"}, {f"l{n}": n for n in range(400)}, {"ignore": 0}, {"x": "y"},
        {str(n): "m" for n in range(5000)}, {"0": "ct", "2": "b"}, ["m0", "m1"], "mri",
    ]  # fmt: skip
    value = odd[rng.integers(len(odd))]
    kind = int(rng.integers(8))
    text = json.dumps(content)
    if kind < 4:
        keys = ["labels", "channel_names", "modality", "file_ending", "training"]
        text = json.dumps({**content, keys[rng.integers(len(keys))]: value})
    elif kind == 4:
        text = json.dumps(value)
    elif kind == 5:
        depth = int(rng.choice([100, 5000, 200_000]))
        text = "[" * depth if rng.random() < 0.5 else '{"labels":' * depth + "1" + "}" * depth
    elif kind == 6:
        text = text.replace("0", "9" * 6000, 1)
    else:
        start = int(rng.integers(len(text)))
        text = (
            text[:start]
            + ("NaN", "Infinity", "\\ud800", "\0", '"', "}")[rng.integers(6)]
            + text[start:]
        )
    code = ("utf-8", "utf-8", "utf-16", "utf-8-sig")[rng.integers(4)]
    path.write_bytes(text.encode(code, "surrogatepass"))


def remove(folder: Path, rng: np.random.Generator) -> None:
    """Files are missing, a folder is empty, or everything is gone."""
    files = _files(folder)
    count = int(rng.choice([1, len(files) // 2, len(files)]))
    for number in rng.permutation(len(files))[:count]:
        files[number].unlink()


KINDS: dict[str, Fault] = {
    "truncated": truncate,
    "bits flipped": flip_bits,
    "bits flipped within": unpacked_bits,
    "spliced": splice,
    "swapped": swap,
    "header claims": head,
    "bomb": bomb,
    "link or pipe": links,
    "odd name": names,
    "deep nesting": nesting,
    "table": table,
    "dataset.json": json_table,
    "missing": remove,
}
SHARES = {
    "bomb": 0.25,
    "deep nesting": 0.2,
    "missing": 0.3,
    "bits flipped": 2.0,
    "header claims": 2.0,
}
"""How often a kind is drawn, where not once: bombs take long, damaged bits vary most."""


def _files(folder: Path) -> list[Path]:
    """Regular files that a path can name, sorted."""
    return sorted(
        Path(parent) / name
        for parent, _, names in os.walk(folder)
        for name in names
        if len(parent) + len(name) < LONGEST_PATH
        and stat.S_ISREG(os.lstat(f"{parent}/{name}").st_mode)
    )


def _any_file(folder: Path, rng: np.random.Generator) -> tuple[Path, bytes]:
    files = _files(folder)
    if not files:
        files = [folder / "x.png"]
        files[0].write_bytes(b"")
    path = files[rng.integers(len(files))]
    return path, path.read_bytes()


def _flipped(raw: bytes, rng: np.random.Generator, within: int) -> bytes:
    changed = np.frombuffer(raw, np.uint8).copy()
    if len(changed):
        places = rng.integers(0, min(within, len(changed)), int(rng.integers(1, 5)))
        np.bitwise_xor.at(changed, places, (1 << rng.integers(0, 8, len(places))).astype(np.uint8))
    return changed.tobytes()


def _rewrite_npz(path: Path, change: Callable[[bytes], bytes]) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, raw in members.items():
            archive.writestr(name, change(raw))


def _claimed(volume: bytes, rng: np.random.Generator) -> bytes:
    """A volume whose header claims what is not so, half the time one of NIfTI-2."""
    if len(volume) >= 352 and rng.random() < 0.5:
        wider = as_nifti2(volume)
        claim_nifti2(wider, rng)
        return bytes(wider)
    same = bytearray(volume)
    claim_nifti(same, rng)
    return bytes(same)


def _png_chunks(data: bytes, rng: np.random.Generator) -> bytes:
    """A PNG with one chunk's content damaged, and its checksum right."""
    out, place, target = data[:8], 8, int(rng.integers(0, 4))
    while place + 12 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        body = data[place + 4 : place + 8 + length]
        if target == 0 and len(body) > 4:
            body = body[:4] + _flipped(body[4:], rng, len(body))
        out += struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        place, target = place + 12 + length, target - 1
    return out
