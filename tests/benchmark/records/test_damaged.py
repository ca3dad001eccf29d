"""Files that are not what they should be: every reader says which, where and what."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import yaml
from support.claims import QUALITY, SPEED
from support.configs import MISSING, changed
from support.damage import damages
from support.records import METRICS, write_any

from benchmark.base.errors import BenchmarkError, ConfigError, RecordError
from benchmark.claims.claims import load_claims
from benchmark.claims.gates import load_gates
from benchmark.records.record import read_record, record_digest
from benchmark.training.progress_file import PROGRESS, read_progress, write_progress
from paper_figures.tables.reported import reported


@dataclass
class Reader:
    """A reader, a sound file of its own as plain values, and how these become text.

    Attributes:
        wrap: the values that a file holds, around those that the damages below change.
    """

    read: Callable
    values: dict
    error: type[BenchmarkError]
    dump: Callable = yaml.safe_dump
    wrap: Callable = lambda values: values


def a_record(kind: str) -> dict:
    """A record's content, without its digest."""
    return write_any(Path("record.json"), kind).model_dump(exclude_unset=True, exclude={"digest"})


def with_digest(values: dict) -> dict:
    return {"digest": record_digest(values)} | values


def progress_or_error(path: Path):
    """Damage to it is no error, and the file is as good as absent."""
    progress = read_progress(path.parent)
    if progress is None:
        raise RecordError(f"{path}: ")
    return progress


def the_progress() -> dict:
    write_progress(".", update=40, updates=100, rate=2.5, values={"loss": -3.5})
    content = json.loads(Path(PROGRESS).read_text())
    return content | {"checkpoint": {"update": 30, "written": 990.0}}


@cache
def readers() -> dict[str, Reader]:
    return {
        **{
            kind: Reader(read_record, a_record(kind), RecordError, json.dumps, with_digest)
            for kind in ("metrics", "timing")
        },
        "progress": Reader(progress_or_error, the_progress(), RecordError, json.dumps),
        "claims": Reader(
            load_claims, QUALITY.model_dump(exclude_unset=True), ConfigError, wrap=lambda v: [v]
        ),
        "speed": Reader(
            load_claims, SPEED.model_dump(exclude_unset=True), ConfigError, wrap=lambda v: [v]
        ),
        "gates": Reader(
            load_gates,
            {"vae": [{"metric": "fd_classifier", "at_most": {"any": 100}}]},
            ConfigError,
        ),
        "reported": Reader(
            reported,
            {
                **{"source": "a", "by": "author", "metric": "FID", "convention": "b"},
                "values": {"mnist": {"VAE": 1}},
            },
            ConfigError,
            wrap=lambda v: [v],
        ),
    }


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


NAMES = ("metrics", "timing", "progress", "claims", "speed", "gates", "reported")


@pytest.mark.parametrize("name", NAMES)
def test_a_sound_file_is_read(name):
    reader = readers()[name]
    path = Path(PROGRESS).absolute()
    path.write_text(reader.dump(reader.wrap(reader.values)))
    assert len(reader.read(path)) if reader.error is ConfigError else reader.read(path)


CONTENTS = {
    "cut": b'{"run": "a',
    "no mapping": b"3",
    "text": b'"text"',
    "no text": b"\xff\xfe",
    "zeros": b"\x00",
    "deep": b"[" * 100_000,
    "long number": b'{"run": ' + b"9" * 5000 + b"}",
    "half a surrogate": b'["\\ud800"]',
    "unknown keys": b'{"run": [1]}',
}


@pytest.mark.parametrize("content", [*CONTENTS.values(), None], ids=[*CONTENTS, "large"])
@pytest.mark.parametrize("name", ["metrics", "progress", "claims", "gates", "reported"])
def test_a_damaged_file_is_refused_with_its_name(name, content):
    reader, path = readers()[name], Path(PROGRESS).absolute()
    path.write_bytes(content or b"")
    if content is None:
        with path.open("wb") as handle:
            handle.truncate(2**40)
    with pytest.raises(reader.error) as caught:
        reader.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    if content is None and name != "progress":
        assert "1099511627776 bytes, more than" in str(caught.value)


@pytest.mark.parametrize("name", ["metrics", "timing"])
def test_no_damage_changes_what_a_record_says(name):
    reader, path = readers()[name], Path("record.json")
    path.write_text(reader.dump(reader.wrap(reader.values)))
    whole, refused = reader.read(path), 0
    for content in damages(path.read_bytes()):
        path.write_bytes(content)
        try:
            assert reader.read(path) == whole
        except RecordError:
            refused += 1
    assert refused > 100


ROW = METRICS["timing"]["sampling"][0]
WRONG = [
    ("metrics", {"extra": 1}, "extra: unknown setting"),
    ("metrics", {"provenance.user": "me"}, "provenance.user: unknown setting"),
    ("metrics", {"seed": MISSING}, "seed: missing"),
    ("metrics", {"provenance": MISSING}, "provenance: missing"),
    ("metrics", {"seed": "0"}, "seed: must be integer, but '0' is text"),
    ("metrics", {"seed": True}, "seed: must be integer"),
    ("metrics", {"seed": -1}, "seed: -1 is less than the minimum of 0"),
    ("metrics", {"sample_count": 0}, "sample_count: 0 is less than"),
    ("metrics", {"sample_count": 64.0}, "sample_count: must be integer"),
    ("metrics", {"wall_time_s": math.inf}, "wall_time_s: must be number"),
    ("metrics", {"config_hash": "ABCDEF0123456789"}, "config_hash: 'ABCDEF0123456789' must match"),
    ("metrics", {"config_hash": "abc"}, "config_hash: 'abc' must match"),
    ("metrics", {"config_hash": "0123456789abcdef\n"}, "config_hash: "),
    ("metrics", {"provenance.commit": "v1.0"}, "provenance.commit: 'v1.0' must match"),
    ("metrics", {"provenance.device": "tpu"}, "provenance.device: 'tpu' is not one of cpu, cuda"),
    ("metrics", {"provenance.threads": 0}, "provenance.threads: 0 is less than"),
    ("metrics", {"kind": "metric"}, "kind: 'metric' is not one of"),
    ("metrics", {"kind": [1]}, "kind: "),
    ("metrics", {"metrics": {}}, "metrics: nothing was measured"),
    ("metrics", {"digest": MISSING}, "digest: missing"),
    ("metrics", {"digest": "0" * 64}, "its contents do not match its digest"),
    ("timing", {"metrics.session": "a"}, "metrics.session: 'a' must match"),
    ("timing", {"metrics.sampling": [ROW, ROW | {"mode": "slow"}]}, "metrics.sampling[1].mode: "),
    ("progress", {"update": 101}, ""),
    ("progress", {"update": -1}, ""),
    ("progress", {"update": 1.5}, ""),
    ("progress", {"updates": 0}, ""),
    ("progress", {"rate": "fast"}, ""),
    ("progress", {"rate": -1.0}, ""),
    ("progress", {"written": math.nan}, ""),
    ("progress", {"checkpoint": {"update": 3}}, ""),
    ("progress", {"values": {"loss": None}}, ""),
    ("progress", {"more": 1}, ""),
    ("claims", {"marjin": 1.0}, "[0].marjin: unknown setting; did you mean 'margin'?"),
    ("claims", {"id": "A"}, "[0].id: 'A' must match"),
    ("claims", {"claim": ""}, "[0].claim: '' should be non-empty"),
    ("claims", {"metric": "fd_clasifier"}, "did you mean 'fd_classifier'?"),
    ("claims", {"seeds": 1}, "[0].seeds: 1 is less than the minimum of 2"),
    ("claims", {"seeds": MISSING}, "seeds is missing"),
    ("claims", {"margin": MISSING}, "margin is missing"),
    ("claims", {"metric": "latency"}, "batch_size is missing; a timing rests on repetitions"),
    ("claims", {"batch_size": 4}, "only a latency has a batch_size"),
    ("claims", {"comparison": "within", "margin": 0.9}, "margin: 0.9 is less than or equal to"),
    ("claims", {"margin": 0}, "margin: 0 is less than or equal to the minimum of 0"),
    ("claims", {"against": 0}, "against: 0 is less than or equal to the minimum of 0"),
    ("claims", {"against": [1]}, "[0].against: must be string or number or a mapping, not [1]"),
    ("claims", {"margin": "1e-1"}, "[0].margin: must be number, but '1e-1' is text in YAML"),
    ("claims", {"datasets": []}, "[0].datasets: [] should be non-empty"),
    ("claims", {"datasets": ["minst"]}, "unknown dataset 'minst'; did you mean 'mnist'?"),
    ("claims", {"datasets": ["mnist", "mnist"]}, "datasets has non-unique elements"),
    ("claims", {"despite": ["fid"]}, "[0].despite[0]: 'fid' is not one of"),
    ("claims", {"evidence": "L5"}, "[0].evidence: 'L5' is not one of"),
    ("claims", {"not_measured": "why"}, "says why nothing was measured, and what is to be judged"),
    ("speed", {"effect": "difference"}, "times are compared by their ratio"),
    ("speed", {"seeds": 3}, "a timing rests on repetitions, not on seeds"),
    (
        "gates",
        {"vee": [{"metric": "fd_classifier", "below": "vae"}]},
        "vee: unknown model; did you mean 'vae'",
    ),
    ("gates", {"vae": [{"metric": "fid", "below": "vae"}]}, "vae[0].metric: 'fid' is not one of"),
    ("gates", {"vae": [{"metric": "fd_classifier"}]}, "vae[0]: needs one of at_least"),
    ("gates", {"vae": [{"metric": "fd_classifier", "at_most": {}}]}, "vae[0].at_most: {} should"),
    (
        "gates",
        {"vae": [{"metric": "fd_classifier", "at_most": {"any": "1e2"}}]},
        "vae[0].at_most.any: must be number, but '1e2'",
    ),
    ("reported", {"values.mnist.VAE": "high"}, "[0].values.mnist.VAE: must be number, not 'high'"),
    ("reported", {"values.mnist": {}}, "[0].values.mnist: {} should be non-empty"),
    ("reported", {"by": "me"}, "[0].by: 'me' is not one of author, field"),
    ("reported", {"source": MISSING}, "[0].source: missing"),
]


@pytest.mark.parametrize(("name", "changes", "text"), WRONG, ids=lambda value: str(value)[:40])
def test_a_wrong_value_is_refused_with_its_place(name, changes, text):
    reader, path = readers()[name], Path(PROGRESS).absolute()
    if "digest" in changes:
        values = changed(reader.wrap(reader.values), changes)
    else:
        values = reader.wrap(changed(reader.values, changes))
    path.write_text(reader.dump(values))
    with pytest.raises(reader.error) as caught:
        reader.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert text in str(caught.value)


def test_all_that_is_wrong_is_said_at_once():
    reader, path = readers()["claims"], Path("claims.yaml")
    values = changed(reader.values, {"seeds": 1, "marjin": 1.0, "effect": "sum"})
    path.write_text(yaml.safe_dump([reader.values, values]))
    with pytest.raises(ConfigError) as caught:
        load_claims(path)
    places = [problem.split(":")[0] for problem in caught.value.problems]
    assert places == ["[1].effect", "[1].marjin", "[1].seeds"]
    path.write_text(yaml.safe_dump([reader.values, reader.values]))
    with pytest.raises(ConfigError, match="quality: given twice"):
        load_claims(path)
