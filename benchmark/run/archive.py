"""`python -m benchmark archive`: the committed files as one zip, to be kept where a DOI is given.

It is a workflow RO-Crate (https://w3id.org/workflowhub/workflow-ro-crate): its metadata lie in
ro-crate-metadata.json, the sha256 of each file in SHA256SUMS. The same commit gives the same bytes.
"""

import hashlib
import io
import json
import os
import subprocess
import tarfile
import tempfile
import tomllib
from pathlib import Path

import yaml

from benchmark.base.errors import BenchmarkError
from benchmark.base.files import atomic, file_digest
from benchmark.base.paths import PUBLISHED, ROOT

METADATA, SUMS = "ro-crate-metadata.json", "SHA256SUMS"
MARKDOWN, PLAIN = "text/markdown", "text/plain"
TEXTS = {
    "README.md": (MARKDOWN, "What it is, what was found, four commands"),
    "ARTIFACT.md": (MARKDOWN, "For evaluators: each claim with the command that checks it"),
    "CHANGELOG.md": (MARKDOWN, "What each version holds"),
    "CITATION.cff": ("application/yaml", "How to cite it"),
    "LICENSE": (PLAIN, "Licence"),
    "requirements.lock": (PLAIN, "Every package with its version and hashes"),
}


def archive(root: Path = ROOT) -> str:
    """Write dist/kaem-<version>.zip, and its sha256 beside it; returns a line about it.

    Raises:
        BenchmarkError: this is no git checkout, or not all of it is committed.
    """
    changes = _git(root, "status", "--porcelain").decode().splitlines()
    if changes:
        first = "\n".join(f"  {line}" for line in changes[:5])
        raise BenchmarkError(
            f"an archive holds what is committed; changed or new ({len(changes)}):\n{first}\n"
            "  Commit them, or take them away."
        )
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    path = root / "dist" / f"{project['name']}-{project['version']}.zip"
    with tempfile.TemporaryDirectory() as folder, atomic(path) as temporary:
        metadata, sums = Path(folder, METADATA), Path(folder, SUMS)
        text = json.dumps(describe(root, project), indent=1, ensure_ascii=False)
        metadata.write_text(text + "\n", encoding="utf-8")
        digests = _digests(root) | {METADATA: file_digest(metadata)}
        lines = [f"{digest}  {name}\n" for name, digest in sorted(digests.items())]
        sums.write_text("".join(lines), encoding="utf-8")
        added = [f"--add-file={file}" for file in (metadata, sums)]
        _git(root, "archive", "--format=zip", f"--output={temporary}", *added, "HEAD")
    digest = file_digest(path)
    with atomic(path.with_name(path.name + ".sha256")) as temporary:
        temporary.write_text(f"{digest}  {path.name}\n", encoding="utf-8")
    return f"{path}: {len(digests)} files, {path.stat().st_size / 1e6:.1f} MB, sha256 {digest}"


def describe(root: Path, project: dict) -> dict:
    """Return the metadata of a repository as an RO-Crate: the workflow and its authors, the texts
    and the published runs."""
    from rocrate.model import ContextEntity
    from rocrate.rocrate import ROCrate

    citation = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    crate = ROCrate(version="1.1")  # the one that archives of workflows know
    commit = _git(root, "rev-parse", "HEAD").decode().strip()
    crate.name, crate.description = citation["title"], f"{project['description']}, commit {commit}"
    spdx = f"https://spdx.org/licenses/{citation['license']}"
    licence = ContextEntity(
        crate, spdx, properties={"@type": "CreativeWork", "name": citation["license"]}
    )
    authors = [
        ContextEntity(crate, f"#author-{number}", properties=_author(author))
        for number, author in enumerate(citation["authors"], 1)
    ]
    crate.add(licence, *authors)
    about = {
        "encodingFormat": PLAIN,
        "name": citation["title"],
        "version": str(citation["version"]),
        "datePublished": str(citation["date-released"]),
    }
    workflow = crate.add_workflow(
        dest_path="Snakefile", main=True, lang="snakemake", properties=about
    )
    for entity in (crate.root_dataset, workflow):
        entity["license"] = licence
        entity["author"] = authors if len(authors) > 1 else authors[0]
    crate.root_dataset["version"] = about["version"]
    crate.datePublished = citation["date-released"]
    for name, (encoding, text) in TEXTS.items():
        properties = {"name": name, "encodingFormat": encoding, "description": text}
        crate.add_file(dest_path=name, properties=properties)
    crate.get("README.md")["about"] = crate.root_dataset
    for folder in sorted(path for path in (root / PUBLISHED).iterdir() if path.is_dir()):
        properties = {
            "name": f"Published results: {folder.name}",
            "description": f"Records and what was made of them; see {PUBLISHED}/README.md",
        }
        crate.add_dataset(dest_path=f"{PUBLISHED}/{folder.name}/", properties=properties)
    return crate.metadata.generate()


def _author(author: dict) -> dict[str, str]:
    if "name" in author:
        return {"@type": "Organization", "name": author["name"]}
    names = {"givenName": author["given-names"], "familyName": author["family-names"]}
    return {"@type": "Person", "name": " ".join(names.values())} | names


def _digests(root: Path) -> dict[str, str]:
    """Return each committed file's path and sha256, as the archive will hold it."""
    with tarfile.open(fileobj=io.BytesIO(_git(root, "archive", "--format=tar", "HEAD"))) as tar:
        return {
            member.name: hashlib.sha256(tar.extractfile(member).read()).hexdigest()
            for member in tar
            if member.isfile()
        }


def _git(root: Path, *arguments: str) -> bytes:
    """Return what git prints.

    Raises:
        BenchmarkError: git is missing, or fails.
    """
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=root,
            env=os.environ | {"TZ": "UTC"},  # a zip has local times
            capture_output=True,
            check=True,
        )
    except FileNotFoundError as error:
        raise BenchmarkError("an archive is made of a commit by git, which is missing") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        raise BenchmarkError(f"{root}: git {arguments[0]}: {said}") from error
    return done.stdout
