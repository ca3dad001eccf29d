"""How many operations of torch a call makes: each is a launch on a GPU, and on a CPU what a call of
few images mostly takes. A kernel of Triton's is none of them, and one launch."""

from collections import Counter

from torch.utils._python_dispatch import TorchDispatchMode

from benchmark.timing.series import Call

# Operations that compute nothing: they only look at memory in another way.
VIEWS = {
    *("_reshape_alias", "_unsafe_view", "alias", "as_strided", "detach", "expand", "lift_fresh"),
    *("permute", "reshape", "select", "slice", "split", "split_with_sizes", "squeeze", "t"),
    *("transpose", "unbind", "unfold", "unsqueeze", "view"),
}


class Operations(TorchDispatchMode):
    """Counts operations, views left out, by name.

    Attributes:
        counts: of each name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, function, _types, args=(), kwargs=None):
        name = function._schema.name.split("::")[1]
        if name not in VIEWS:
            self.counts[name] += 1
        return function(*args, **(kwargs or {}))


def operations(call: Call) -> Counter[str]:
    """Return the operations of a call by name, once it has been made before."""
    call()
    with Operations() as mode:
        call()
    return mode.counts
