"""Files read into typed classes: what is refused, and what is said of it."""

from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError

from benchmark.base.typed import Count, Number, Positive, Share, Strict, Text, problems


class Conv(Strict):
    kind: Literal["conv"]
    width: Count


class Kan(Strict):
    kind: Literal["kan"]


class Settings(Strict):
    rate: Number = 1.0
    sigma: Positive = 1.0
    share: Share = 0.5
    updates: int = 1
    batch: int | None = None
    schedule: Literal["cosine", "constant"] = "cosine"
    name: Annotated[str, Field(pattern="^[a-z]+$")] = "a"
    title: Text = "A"
    demo: bool = False
    against: str | float = 0.0
    decoders: list[Annotated[Conv | Kan, Field(discriminator="kind")]] = Field([])
    counts: dict[Literal["train", "test"], Count] = Field({})


MISTAKES = [
    ({"upates": 3}, "upates: unknown setting; did you mean 'updates'?"),
    ({"updates": 100.0}, "updates: must be integer, not 100.0"),
    ({"updates": True}, "updates: must be integer, not True"),
    ({"updates": "1e2"}, "updates: must be integer, but '1e2' is text in YAML; write 100"),
    ({"batch": "8"}, "batch: must be integer, but '8' is text in YAML; write 8"),
    ({"rate": "1e-4"}, "rate: must be number, but '1e-4' is text in YAML; write 1.0e-4"),
    ({"rate": float("nan")}, "rate: must be number, not nan"),
    ({"rate": float("inf")}, "rate: must be number, not inf"),
    ({"rate": True}, "rate: must be number, not True"),
    ({"rate": "nan"}, "rate: must be number, not 'nan'"),
    ({"sigma": 0}, "sigma: 0 is less than or equal to the minimum of 0"),
    ({"share": 1.5}, "share: 1.5 is greater than the maximum of 1"),
    (
        {"schedule": "cosin"},
        "schedule: 'cosin' is not one of cosine, constant; did you mean 'cosine'?",
    ),
    ({"name": "a\n"}, r"name: 'a\n' must match ^[a-z]+$"),
    ({"name": "ABC"}, "name: 'ABC' must match ^[a-z]+$; write 'abc'"),
    ({"decoders": "conv"}, "decoders: must be a list, not 'conv'; write [conv]"),
    ({"decoders": {}}, "decoders: must be a list, not {}"),
    ({"title": ""}, "title: '' should be non-empty"),
    ({"title": 3}, "title: must be string, not 3"),
    ({"demo": 1}, "demo: must be boolean, not 1"),
    ({"against": []}, "against: must be string or number, not []"),
    (
        {"decoders": [{"kind": "cnov"}]},
        "decoders[0].kind: 'cnov' is not one of conv, kan; did you mean 'conv'?",
    ),
    ({"decoders": [{}]}, "decoders[0].kind: missing"),
    ({"decoders": [{"kind": "conv"}]}, "decoders[0].width: missing"),
    (
        {"decoders": [{"kind": "conv", "width": 1, "wdth": 1}]},
        "decoders[0].wdth: unknown setting; did you mean 'width'?",
    ),
    ({"counts": {"tset": 1}}, "counts: 'tset' is not one of train, test; did you mean 'test'?"),
    ({"counts": {"test": 0}}, "counts.test: 0 is less than the minimum of 1"),
    ([], "the file: must be a mapping, not []"),
]


@pytest.mark.parametrize(("values", "line"), MISTAKES, ids=[line for _, line in MISTAKES])
def test_a_mistake_is_one_line_with_its_path_and_a_way_out(values, line):
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(values)
    assert problems(caught.value, values, "the file") == [line]


def test_all_mistakes_are_told_at_once_and_numbers_stay_as_written():
    values = {key: value for wrong, _ in MISTAKES[:-1] for key, value in wrong.items()}
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(values)
    paths = [
        line.split(": ")[0].split("[")[0].split(".")[0] for line in problems(caught.value, values)
    ]
    assert sorted(set(paths)) == sorted(values)
    assert type(Settings(rate=2).rate) is int
