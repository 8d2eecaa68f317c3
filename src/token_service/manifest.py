"""A model folder's `manifest.json`: which files belong to the model, with size and SHA-256.

    python -m token_service.manifest DIR           verify, exit 1 with one message when a file differs
    python -m token_service.manifest --write DIR   describe the folder as it is now

Format `slipway-model-manifest/1`: `{"format": ..., "files": [{"path", "sha256", "size"}, ...]}`, paths relative with
forward slashes, sorted. Every file belongs to the model except `manifest.json`, `*.md` and names that start with a
dot. A file that is not listed fails verification: transformers would read it, and nobody vouched for it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from token_service.errors import StartError

NAME = "manifest.json"
FORMAT = "slipway-model-manifest/1"


@dataclass(frozen=True)
class Entry:
    """One file: `path` relative to the model folder, `sha256` in hexadecimal, `size` in bytes."""

    path: str
    sha256: str
    size: int


def _mend(folder: Path) -> str:
    return f"restore the file, or accept the folder as it is: python -m token_service.manifest --write {folder}"


def _describe(folder: Path, path: str) -> Entry:
    file = folder / path
    with file.open("rb") as stream:
        return Entry(path, hashlib.file_digest(stream, "sha256").hexdigest(), file.stat().st_size)


def _members(folder: Path) -> list[str]:
    found = (file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    return sorted(
        path
        for path in found
        if path != NAME and not path.endswith(".md") and not any(part[0] == "." for part in path.split("/"))
    )


def _describe_all(folder: Path, paths: list[str]) -> list[Entry]:
    with ThreadPoolExecutor(max_workers=4) as pool:  # hashing releases the GIL; four saturate one disk
        return list(pool.map(lambda path: _describe(folder, path), paths))


def write(folder: Path) -> list[Entry]:
    """Describe every file of the model in `folder`/manifest.json, atomically."""
    entries = _describe_all(folder, _members(folder))
    text = json.dumps({"format": FORMAT, "files": [asdict(entry) for entry in entries]}, indent=2) + "\n"
    half = folder / f".{NAME}.{os.getpid()}"
    half.write_text(text)
    half.replace(folder / NAME)
    return entries


def _parse(text: str) -> list[Entry]:
    document = json.loads(text)
    if document["format"] != FORMAT:
        raise ValueError(f"format {document['format']!r}")
    return [Entry(str(row["path"]), str(row["sha256"]), int(row["size"])) for row in document["files"]]


def read(folder: Path) -> list[Entry]:
    """Return the entries of `folder`/manifest.json.

    Raises:
        StartError: the file is missing, is not JSON, or is not in the format above.
    """
    file = folder / NAME
    try:
        entries = _parse(file.read_text())
    except FileNotFoundError:
        raise StartError(
            f"no {NAME} in the model folder {folder}",
            rule="a model is served only when every file matches a recorded SHA-256",
            mend=f"python -m token_service.manifest --write {folder}",
        ) from None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise StartError(
            f"cannot read {file}", seen=repr(error), rule=f"JSON in {FORMAT}", mend=_mend(folder)
        ) from None
    for entry in entries:
        parts = PurePosixPath(entry.path).parts
        if not parts or parts[0] == "/" or ".." in parts:
            raise StartError(f"{file} names a path outside the model folder", seen=entry.path, mend=_mend(folder))
    if not entries:
        raise StartError(f"{file} lists no files", rule="weights, config and tokenizer are listed", mend=_mend(folder))
    return entries


def verify(folder: Path) -> list[Entry]:
    """Check every file of the model against the manifest.

    Raises:
        StartError: a file is missing, differs, or is not listed; names the first one.
    """
    entries = read(folder)
    missing = [entry.path for entry in entries if not (folder / entry.path).is_file()]
    if missing:
        raise StartError(f"model file {folder / missing[0]} is missing", rule=f"listed in {NAME}", mend=_mend(folder))
    extra = sorted(set(_members(folder)) - {entry.path for entry in entries})
    if extra:
        raise StartError(f"model file {folder / extra[0]} is not listed in {NAME}", mend=_mend(folder))
    for listed, seen in zip(entries, _describe_all(folder, [entry.path for entry in entries]), strict=True):
        if listed != seen:
            raise StartError(
                f"model file {folder / listed.path} does not match {NAME}",
                seen=f"sha256 {seen.sha256}, {seen.size} bytes",
                rule=f"sha256 {listed.sha256}, {listed.size} bytes",
                mend=_mend(folder),
            )
    return entries


def fingerprint(folder: Path) -> str:
    """Return the SHA-256 of the manifest itself, which names the model as a whole."""
    return hashlib.sha256((folder / NAME).read_bytes()).hexdigest()


def main(arguments: list[str] | None = None) -> int:
    """Run the command line above; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", action="store_true", help="write manifest.json from the files as they are")
    options = parser.parse_args(arguments)
    try:
        entries = write(options.folder) if options.write else verify(options.folder)
    except StartError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    total = sum(entry.size for entry in entries)
    sys.stdout.write(f"{'wrote' if options.write else 'verified'} {len(entries)} files, {total} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
