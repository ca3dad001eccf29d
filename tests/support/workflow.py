"""The workflow as a user runs it: Snakemake in a process of its own, in a temporary folder."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from support.configs import CONFIG_FOLDER

REPOSITORY = CONFIG_FOLDER.parent
SNAKEFILE = ("-s", REPOSITORY / "Snakefile", "--cores", "2")
CLOSED_PORT = "http://127.0.0.1:9"  # a proxy there refuses every connection at once


def snakemake(folder: Path, *words, **environment) -> subprocess.CompletedProcess:
    """Run the workflow from `folder`, which holds its configuration; no network can be reached."""
    offline = dict.fromkeys(("http_proxy", "https_proxy"), CLOSED_PORT) | environment
    kept = {k: v for k, v in os.environ.items() if not k.lower().startswith(("no_proxy", "kaem_"))}
    return subprocess.run(
        [sys.executable, "-m", "snakemake", *SNAKEFILE, "--directory", folder, *words],
        cwd=folder,
        env=kept | offline,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@dataclass(frozen=True)
class Plan:
    """What a dry run would do.

    Attributes:
        jobs: "rule dataset model ..." with the wildcards' values.
        outputs: the files that would be written.
        gpus: job -> the GPUs that it would take.
    """

    jobs: set[str]
    outputs: set[str]
    gpus: dict[str, int]


def plan(folder: Path, config: str, *words) -> Plan:
    """A dry run, which must succeed."""
    # The profile shows no rules; --quiet on the command line replaces its setting.
    done = snakemake(folder, *words, "--configfile", config, "-n", "--quiet", "host")
    assert done.returncode == 0, done.stdout
    jobs, outputs, gpus = set(), set(), {}
    for block in re.split(r"^(?:local)?rule ", done.stdout, flags=re.MULTILINE)[1:]:
        name = block.partition(":")[0]
        if name == "all":
            continue
        values = re.search(r"^ +wildcards: (.*)$", block, re.MULTILINE)
        pairs = values[1].split(", ") if values else []
        job = " ".join([name, *(pair.partition("=")[2] for pair in pairs)])
        jobs.add(job)
        outputs |= set(re.search(r"^ +output: (.*)$", block, re.MULTILINE)[1].split(", "))
        taken = re.search(r"^ +resources: .*\bgpu=(\d+)", block, re.MULTILINE)
        gpus[job] = int(taken[1]) if taken else 0
    return Plan(jobs, outputs, gpus)


def snapshot(folder: Path) -> dict[str, str]:
    """Every file below a folder and the digest of its contents."""
    return {
        str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".snakemake" not in path.parts
    }
