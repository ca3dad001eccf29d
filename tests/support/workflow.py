"""The workflow as a user runs it: Snakemake in a process of its own, in a temporary folder."""

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

from snakemake import cli
from support.configs import CONFIG_FOLDER
from support.kills import end, fork

REPOSITORY = CONFIG_FOLDER.parent
SNAKEFILE = ("-s", REPOSITORY / "Snakefile", "--cores", "2")
CLOSED_PORT = "http://127.0.0.1:9"  # a proxy there refuses every connection at once


def snakemake(folder: Path, *words, **environment) -> subprocess.CompletedProcess:
    """Run the workflow from `folder`, which holds its configuration; no network can be reached.

    Args:
        environment: in which Python is started anew; else a fork of this process does it, for which
            nothing is imported again.
    """
    offline = dict.fromkeys(("http_proxy", "https_proxy"), CLOSED_PORT) | environment
    kept = {k: v for k, v in os.environ.items() if not k.lower().startswith(("no_proxy", "kaem_"))}
    words = ["snakemake", *map(str, (*SNAKEFILE, "--directory", folder, *words))]
    with tempfile.TemporaryFile("w+") as said:
        if environment:
            code = subprocess.run(
                [sys.executable, "-m", *words],
                cwd=folder,
                env=kept | offline,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode
        else:
            code = end(fork(partial(_snakemake, folder, words, kept | offline), said.fileno()))
        said.seek(0)
        return subprocess.CompletedProcess(words, code, said.read())


def _snakemake(folder: Path, words: list[str], environment: dict[str, str]) -> int:
    """Run Snakemake in this process, a child that has imported it."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = words
    try:
        cli.main()
    except SystemExit as ended:
        return ended.code
    return 0


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
