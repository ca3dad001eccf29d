"""All that a timing record says of a model: its times in every mode, and what they depend on."""

from collections.abc import Callable

import torch

from benchmark.alone import Watch, is_disturbed, refuse_disturbed, reserved
from benchmark.gpu import gpu_state
from benchmark.timing import flops_per_image, set_mode, time_sampling
from benchmark.train import parameter_count


def measure_speed(
    load: Callable[[], torch.nn.Module], settings: dict, device: torch.device
) -> dict:
    """The metrics of a timing record, but for "trained".

    Args:
        load: builds the model on the device, anew for each mode.
        settings: `timing` of the configuration.

    Raises:
        TimingError: other work went on meanwhile, and `disturbed` is "refuse".
    """
    names = ("batch_sizes", "warmup", "repetitions", "seconds", "longest_call")
    limits = {name: settings[name] for name in names}
    rows = []
    with reserved(device):
        watch = Watch(device)
        for mode in settings["modes"]:
            if mode == "graphed" and device.type != "cuda":
                continue
            if mode != "eager":  # imports the compiler, for seconds
                torch.compiler.reset()
            model = load()
            set_mode(model, mode)
            rows += time_sampling(model, device, mode=mode, **limits)
        others, state = watch.others(), gpu_state(device)
    if settings["disturbed"] == "refuse":
        refuse_disturbed(others)
    model = load()
    return {
        "nfe": model.nfe,
        "parameters": parameter_count(model),
        "flops_per_image": flops_per_image(model, device),
        "others": others,
        "disturbed": is_disturbed(others),
        "gpu_state": state,
        "sampling": rows,
    }
