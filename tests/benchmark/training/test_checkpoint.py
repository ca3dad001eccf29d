"""Trainings that are interrupted, and end as if they had not been."""

import errno
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from support.configs import bars_dataset, tiny_config, write_config
from support.keepers import Interrupted, Kept
from support.kills import (
    UPDATES,
    begin,
    end,
    results,
    settings,
    train_killed,
    train_words,
    working_folder,
)

import benchmark.training.checkpoint
import benchmark.training.loop
from benchmark import cli
from benchmark.base import paths
from benchmark.base.errors import Stopped, TrainingError
from benchmark.base.process import StopRequests
from benchmark.config.registry import MODELS
from benchmark.training.checkpoint import KEPT, Checkpoints
from benchmark.training.progress_file import read_progress
from benchmark.training.train import train_model

CPU = torch.device("cpu")
# In processes that are killed; `make kills` does it for all of them, and more often.
KILLED = ["kaem_thermo", "pixel_ebm", "two_stage_vae", "classifier"]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """The data are prepared once for all trainings here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KAEM_CACHE_ROOT", str(tmp_path_factory.mktemp("cache")))
        yield


# The state ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_a_training_goes_on_from_its_state_as_if_nothing_had_been(model):
    job = tiny_config(settings(model)).training_job("digits", model)

    def train(keeper=None):
        return train_model(job, bars_dataset(), 0, CPU, "none", keeper)

    whole = train()
    keeper = Kept(8)  # in the second epoch of five batches
    with pytest.raises(Interrupted):
        train(keeper)
    torch.rand(3)  # the state of the global generator is restored too
    again = train(Kept(state=keeper.state))
    for key, value in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[key], value), key
    assert again.diagnostics.keys() == whole.diagnostics.keys()
    for key, value in whole.diagnostics.items():
        assert (again.diagnostics[key] == value).all()
    for row, other in zip(whole.history.rows, again.history.rows, strict=True):
        assert row | {"seconds": 0} == other | {"seconds": 0}


def test_what_was_not_restored_would_show():
    # Each part of a state matters to one of these, or the test above could not fail.
    job = tiny_config(settings("kaem_thermo")).training_job("digits", "kaem_thermo")

    def end_of(state=None):
        return train_model(job, bars_dataset(), 0, CPU, "none", Kept(state=state)).model

    keeper = Kept(8)
    with pytest.raises(Interrupted):
        train_model(job, bars_dataset(), 0, CPU, "none", keeper)
    whole = end_of(keeper.state)
    for part in ("adam.", "stream.noise", "stream.order", "training.chains", "training.level_sum"):
        spoilt = dict(keeper.state.tensors)
        for key in (key for key in spoilt if key.startswith(part)):
            if part == "stream.order":
                spoilt[key] = torch.cat([spoilt[key][:-8], torch.tensor([1]).view(torch.uint8)])
            elif part == "stream.noise":
                spoilt[key] = torch.Generator().manual_seed(1).get_state()
            else:
                spoilt[key] = torch.zeros_like(spoilt[key]) + 0.1
        other = end_of(type(keeper.state)(8, spoilt, keeper.state.values))
        pairs = zip(whole.state_dict().values(), other.state_dict().values(), strict=True)
        assert not all(torch.equal(a, b) for a, b in pairs), part


# Processes that are killed -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """model -> what a training leaves that nothing disturbed, and the seconds that it took."""
    found = {}

    def train(model: str):
        if model not in found:
            folder = tmp_path_factory.mktemp(model)
            with working_folder(folder):
                config = write_config(folder / "tiny.yaml", settings(model))
                started = time.perf_counter()
                assert end(begin(train_words(model, config), folder / "log")) == 0
                found[model] = results(folder / "results/tiny"), time.perf_counter() - started
        return found[model]

    return train


@pytest.mark.parametrize("model", KILLED)
def test_killed_at_random_moments_it_ends_the_same(model, uninterrupted, tmp_path, monkeypatch):
    expected, seconds = uninterrupted(model)
    monkeypatch.chdir(tmp_path)
    config = write_config(tmp_path / "tiny.yaml", settings(model))
    draws = random.Random(0)
    train_killed(train_words(model, config), tmp_path / "log", seconds, draws, kills=3)
    assert results(tmp_path / "results/tiny") == expected


@pytest.mark.parametrize("model", ["kaem_thermo", "ddpm"])
def test_killed_while_it_writes_a_checkpoint_it_ends_the_same(
    model, uninterrupted, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    config = write_config(tmp_path / "tiny.yaml", settings(model))
    sync = os.fsync

    def killed(descriptor):
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.match(".state-000000009.*.tmp"):
            os.kill(os.getpid(), signal.SIGKILL)
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        assert end(begin(train_words(model, config), tmp_path / "log")) == -signal.SIGKILL
    (left,) = tmp_path.glob("results/tiny/checkpoints/digits/*/*/.state-*.tmp")
    assert end(begin(train_words(model, config), tmp_path / "log")) == 0
    assert "goes on after update 8" in (tmp_path / "log").read_text()
    assert not left.exists()
    assert results(tmp_path / "results/tiny") == uninterrupted(model)[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_saves_its_state_and_says_so(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    never = {"checkpoint_seconds": 1000, "training.updates": 100}
    config = write_config(tmp_path / "tiny.yaml", settings("vae", **never))
    pid = begin([*train_words("vae", config), "--progress=lines"], tmp_path / "log")
    folder = tmp_path / "results/tiny/checkpoints/digits/vae"
    while not list(folder.glob("*/progress.json")):
        time.sleep(0.005)
    os.kill(pid, number)
    assert end(pid) == 128 + number
    said = (tmp_path / "log").read_text()
    assert "digits · vae · seed 0: stopped at update" in said
    assert "the same command goes on from there" in said
    (kept,) = folder.glob("*/state-*.safetensors")
    assert not list((tmp_path / "results/tiny").glob("weights"))
    progress = read_progress(kept.parent)
    assert progress.checkpoint.update == progress.update == int(kept.stem.split("-")[1])
    assert end(begin(train_words("vae", config), tmp_path / "log")) == 0
    assert f"goes on after update {progress.update}" in (tmp_path / "log").read_text()
    assert not folder.exists()
    # And the result is that of a training in one go.
    whole = tmp_path / "whole"
    with working_folder(whole):
        assert end(begin(train_words("vae", config), tmp_path / "log")) == 0
    assert results(whole / "results/tiny") == results(tmp_path / "results/tiny")


def test_of_two_processes_one_trains_and_the_other_takes_its_result(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = write_config(tmp_path / "tiny.yaml", settings("vae", **{"training.updates": 100}))
    cli.main(["preflight", f"--config={config}"])  # the data are prepared once
    first = begin(train_words("vae", config), tmp_path / "first")
    while not list(tmp_path.glob("results/tiny/checkpoints/digits/vae/*/progress.json")):
        time.sleep(0.005)
    os.kill(first, signal.SIGSTOP)
    (tmp_path / "second").touch()
    second = begin(train_words("vae", config), tmp_path / "second")
    while "waiting for it to end" not in (tmp_path / "second").read_text():
        time.sleep(0.005)
    os.kill(first, signal.SIGCONT)
    assert (end(first), end(second)) == (0, 0)
    said = (tmp_path / "second").read_text()
    assert "was trained by the other process" in said
    assert not (tmp_path / "results/tiny/checkpoints").exists()


# Faults ------------------------------------------------------------------------------------------


@pytest.fixture
def interrupted(tmp_path, monkeypatch):
    """A training of the VAE that was stopped after update 13, two states kept: its command, the
    folder of the states."""
    monkeypatch.chdir(tmp_path)
    config = write_config(tmp_path / "tiny.yaml", settings("vae"))
    after_update = Checkpoints.after_update

    def stopping(self, training):
        if training.update == 13:
            self.stop.signal = signal.SIGTERM
        after_update(self, training)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "after_update", stopping)
        assert cli.main(train_words("vae", config)) == 128 + signal.SIGTERM
    (folder,) = tmp_path.glob("results/tiny/checkpoints/digits/vae/*")
    assert [p.name for p in sorted(folder.glob("state-*"))] == [
        f"state-{update:09}.safetensors" for update in (12, 13)
    ]
    assert KEPT == 2
    return train_words("vae", config), folder


def flip_a_bit(path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("damage", [flip_a_bit, truncate, lambda path: path.write_bytes(b"")])
def test_a_damaged_checkpoint_is_said_and_the_one_before_is_used(
    damage, interrupted, uninterrupted, tmp_path, capsys
):
    command, folder = interrupted
    damage(folder / "state-000000013.safetensors")
    assert cli.main(command) == 0
    said = capsys.readouterr().err
    assert "state-000000013.safetensors: " in said
    assert "goes on after update 12" in said
    assert results(tmp_path / "results/tiny") == uninterrupted("vae")[0]


def test_when_all_are_damaged_it_begins_anew(interrupted, uninterrupted, tmp_path, capsys):
    command, folder = interrupted
    for path in folder.glob("state-*"):
        flip_a_bit(path)
    assert cli.main(command) == 0
    said = capsys.readouterr().err
    assert said.count("it is damaged") == 2
    assert "goes on" not in said
    assert results(tmp_path / "results/tiny") == uninterrupted("vae")[0]


def test_other_settings_do_not_go_on_from_it(interrupted, capsys):
    command, folder = interrupted
    assert cli.main([*command, "--set", "training.learning_rate=0.001"]) == 0
    assert "goes on" not in capsys.readouterr().err
    assert len(list(folder.glob("state-*"))) == 2  # those of the settings before still have theirs


def test_a_checkpoint_that_was_put_there_from_other_settings_is_refused(interrupted, capsys):
    command, folder = interrupted
    other = [*command, "--set", "training.learning_rate=0.001"]
    config = tiny_config(settings("vae") | {"training.learning_rate": 0.001})
    job = config.training_job("digits", "vae")
    names = {"dataset": "digits", "model": "vae", "seed": 0, "config_hash": job.config_hash}
    folder.rename(folder.parent / paths.fill(paths.CHECKPOINTS, "tiny", **names).name)
    assert cli.main(other) == 0
    assert "is a checkpoint of other settings" in capsys.readouterr().err


@pytest.mark.usefixtures("interrupted")
def test_a_training_begun_on_another_device_is_not_gone_on_with():
    job = tiny_config(settings("vae")).training_job("digits", "vae")
    keeper = Checkpoints(job, 0, torch.device("cuda"), 0, StopRequests())
    with pytest.raises(TrainingError, match="begun on device cpu, and this is cuda"):
        keeper.latest()


def test_a_full_disk_costs_a_checkpoint_and_not_the_training(
    interrupted, uninterrupted, tmp_path, monkeypatch, capsys
):
    command, folder = interrupted
    write = benchmark.training.checkpoint.write_tensors
    written = []

    def full(path, *arguments):
        written.append(path)
        if len(written) == 2:
            (folder / ".state.tmp").write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, *arguments)

    monkeypatch.setattr(benchmark.training.checkpoint, "write_tensors", full)
    assert cli.main(command) == 0
    said = capsys.readouterr().err
    assert "no checkpoint could be written: No space left on device; training goes on" in said
    assert results(tmp_path / "results/tiny") == uninterrupted("vae")[0]


def test_a_disk_that_is_full_at_the_end_keeps_the_state(
    interrupted, uninterrupted, tmp_path, monkeypatch, capsys
):
    command, folder = interrupted

    def full(path, *_):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("benchmark.steps.save_weights", full)
        assert cli.main(command) == 1
    said = capsys.readouterr().err
    assert "vae/seed0.safetensors: No space left on device" in said
    assert "free some space" in said
    assert (folder / f"state-{UPDATES:09}.safetensors").exists()
    assert cli.main(command) == 0
    assert f"goes on after update {UPDATES}" in capsys.readouterr().err
    assert results(tmp_path / "results/tiny") == uninterrupted("vae")[0]


def test_a_loss_that_is_no_number_keeps_the_last_good_state(interrupted, monkeypatch, capsys):
    command, folder = interrupted
    make = benchmark.training.loop.Training.make_update

    def spoilt(self):
        if self.update == 15:
            self.model.decoder.linear.weight.data[0, 0] = torch.nan
        make(self)

    monkeypatch.setattr(benchmark.training.loop.Training, "make_update", spoilt)
    assert cli.main(command) == 1
    said = capsys.readouterr().err
    assert f"the loss is nan at update 16 of {UPDATES}" in said
    assert "It was batch 16 of epoch 1, training images " in said
    assert "The first that is not finite: parameter decoder.linear.weight." in said
    assert f"The last good state is kept: {folder.relative_to(folder.cwd())}" in said
    assert (folder / "state-000000015.safetensors").exists()


def test_a_gpu_that_disappears_ends_the_training_and_keeps_its_state(
    interrupted, uninterrupted, tmp_path, monkeypatch, capsys
):
    command, folder = interrupted
    backward = torch.Tensor.backward

    def lost(tensor, *arguments, **options):
        if (folder / "state-000000014.safetensors").exists():
            raise torch.AcceleratorError("CUDA error: GPU is lost\nCompile with TORCH_USE_CUDA_DSA")
        backward(tensor, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "backward", lost)
        assert cli.main(command) == 1
    said = capsys.readouterr().err
    assert "the GPU failed in update 15: CUDA error: GPU is lost\n" in said
    assert "state-000000014.safetensors" in said
    assert cli.main(command) == 0
    assert results(tmp_path / "results/tiny") == uninterrupted("vae")[0]


def test_a_gradient_that_is_no_number_is_found_before_it_does_harm(monkeypatch):
    job = tiny_config(settings("vae")).training_job("digits", "vae")
    loss = benchmark.training.train.Training.make_update

    def hooked(self):
        if self.update == 4:
            weight = self.model.decoder.linear.weight
            weight.register_hook(lambda gradient: gradient * torch.inf)
        loss(self)

    monkeypatch.setattr(benchmark.training.train.Training, "make_update", hooked)
    with pytest.raises(TrainingError) as error:
        train_model(job, bars_dataset(), 0, CPU, "none")
    assert "a gradient is not finite at update 5" in str(error.value)
    assert "the gradient of decoder.linear.weight" in str(error.value)


def test_a_clock_that_jumps_changes_nothing(uninterrupted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = write_config(tmp_path / "tiny.yaml", settings("vae"))
    jumps = iter(range(10_000))
    monkeypatch.setattr(time, "time", lambda: 1e9 * (-1) ** next(jumps))
    assert cli.main(train_words("vae", config)) == 0
    assert results(tmp_path / "results/tiny") == uninterrupted("vae")[0]


def test_a_folder_that_cannot_be_written_is_refused_before_the_training(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    config = write_config(tmp_path / "tiny.yaml", settings("vae"))

    make = type(tmp_path).mkdir

    def read_only(self, *arguments, **options):
        if "checkpoints" in self.parts:
            raise OSError(errno.EROFS, "Read-only file system", str(self))
        make(self, *arguments, **options)

    monkeypatch.setattr(type(tmp_path), "mkdir", read_only)
    assert cli.main(train_words("vae", config)) == 1
    said = capsys.readouterr().err
    assert "Read-only file system" in said
    assert "make it writable" in said


def test_what_a_killed_writer_left_is_removed_by_the_next_one(interrupted, tmp_path):
    command, folder = interrupted
    weights = tmp_path / "results/tiny/weights/digits/vae"
    weights.mkdir(parents=True)
    left = [weights / ".seed0.safetensors.0123abcd.tmp", folder / ".state-000000014.x.tmp"]
    for path in left:
        path.write_bytes(b"half")
    assert cli.main(command) == 0
    assert [path.name for path in weights.iterdir()] == ["seed0.safetensors"]


# Keeping -----------------------------------------------------------------------------------------


def keeper_of(every: float, monkeypatch, seconds_of_a_write: float = 0.0):
    """A keeper whose writes take a made-up time on a clock that a test moves."""
    clock = [0.0]
    job = tiny_config(settings("vae")).training_job("digits", "vae")
    keeper = Checkpoints(job, 0, CPU, every, StopRequests())
    written = []

    def write(path, *_):
        clock[0] += seconds_of_a_write
        written.append(int(path.stem.split("-")[1]))

    monkeypatch.setattr(benchmark.training.checkpoint, "write_tensors", write)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    return keeper, clock, written


class Made:
    """A training as far as a keeper sees it."""

    update, updates = 0, 1000

    class history:
        stretch = [{"loss": 1.0}]

    def state(self):
        return benchmark.training.loop.State(self.update, {}, {})


def after_updates(keeper, clock, seconds: float, updates: int) -> None:
    training = Made()
    assert keeper.latest() is None
    for training.update in range(1, updates + 1):
        clock[0] += seconds
        keeper.after_update(training)


def test_checkpoints_come_by_wall_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keeper, clock, written = keeper_of(60, monkeypatch)
    after_updates(keeper, clock, 1.0, 200)
    assert written == [60, 120, 180]


def test_writing_them_takes_a_fiftieth_of_the_time_at_most(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keeper, clock, written = keeper_of(60, monkeypatch, seconds_of_a_write=10.0)
    after_updates(keeper, clock, 10.0, 120)
    assert written == [6, 56, 106]


def test_a_request_to_stop_is_for_the_first_signal_alone():
    stop, before = StopRequests(), signal.getsignal(signal.SIGTERM)
    with stop.noted():
        signal.raise_signal(signal.SIGTERM)
        assert stop.signal == signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) == before
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_thread_that_cannot_listen_to_signals_trains_all_the_same():
    reached = []

    def work():
        with StopRequests().noted():
            reached.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert reached


def test_a_lock_that_is_held_for_an_instant_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = tiny_config(settings("vae")).training_job("digits", "vae")
    keeper = Checkpoints(job, 0, CPU, 60, StopRequests())
    keeper.folder.mkdir(parents=True)
    look = FileLock(keeper.folder / "lock", thread_local=False)
    look.acquire()
    threading.Timer(0.2, look.release).start()
    with keeper.held() as waited:
        assert not waited


def test_stopped_is_an_error_with_a_signal():
    assert Stopped("told", signal.SIGTERM).signal == signal.SIGTERM
