"""The digests of a published run's files, in one file that `sha256sum --check` reads too."""

from collections.abc import Iterator
from pathlib import Path

from benchmark.base.errors import RecordError
from benchmark.base.files import atomic, file_digest
from benchmark.base.foreign import read_text
from benchmark.base.paths import CHECKSUMS


def write_checksums(folder: Path) -> None:
    """Write the digests of all files of a folder, but for the list itself."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / CHECKSUMS)
    lines = [f"{file_digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    with atomic(folder / CHECKSUMS) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")


def changed_files(folder: Path) -> Iterator[str]:
    """Say of each published file that is missing or another one, and of each that came later to the
    same folders."""
    path = folder / CHECKSUMS
    try:
        lines = read_text(path).splitlines()
        listed = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: cannot be read as a list of digests: {error}") from error
    for name, digest in listed.items():
        file = folder / name
        if not file.is_file():
            yield f"{file}: is missing"
        elif file_digest(file) != digest:
            yield f"{file}: is not the file that was published: {CHECKSUMS} has another digest"
    folders = {name.partition("/")[0] for name in listed if "/" in name}
    for place in sorted(folders):
        for file in sorted((folder / place).rglob("*")):
            if file.is_file() and file.relative_to(folder).as_posix() not in listed:
                yield f"{file}: is not among the published files of {CHECKSUMS}"
