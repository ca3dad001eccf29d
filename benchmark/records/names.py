"""How metrics are called in records, and how numbers are written."""

import re

# <metric>_<reference>_<images>
METRIC = re.compile(r"(?P<name>\w+)_(?P<split>train|validation|test)_(?P<count>[0-9]+k?)")


def metric_name(name: str, split: str, count: int) -> str:
    """Return a name such as "fid_train_50k" or "fd_classifier_test_360"."""
    return f"{name}_{split}_{count_name(count)}"


def count_name(count: int) -> str:
    """Return "50k" for 50,000, "360" for 360."""
    return f"{count // 1000}k" if count % 1000 == 0 else str(count)


def count_of(name: str) -> int:
    """Return the number that `count_name` wrote."""
    return 1000 * int(name[:-1]) if name.endswith("k") else int(name)


def rate_text(per_second: float) -> str:
    """Write a rate to read: "32,047", "7.2" or "0.13"; slow ones keep two digits."""
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2g}"
