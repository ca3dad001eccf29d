"""Trainings that are interrupted, and end as if they had not been."""

import errno
import itertools
import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from support.configs import bars_dataset, tiny_config, write_config
from support.kills import (
    SETTINGS,
    UPDATES,
    begin,
    end,
    results,
    settings,
    train_killed,
    train_words,
    working_folder,
)
from support.tensor_files import DAMAGES
from support.trainings import Interrupted, MemoryCheckpoints, outcome, watched

from benchmark import cli
from benchmark.base.errors import Stopped, TrainingError
from benchmark.base.process import StopRequests
from benchmark.base.tensors import write_tensors
from benchmark.config.jobs import job_of
from benchmark.data.dataset import load_data
from benchmark.training.checkpoint import KEPT, Checkpoints, State
from benchmark.training.progress_file import read_progress
from benchmark.training.train import train_model

CPU = torch.device("cpu")
RUN = Path("results/tiny")
# In processes that are killed; `make kills` does it for all of them, and more often.
KILLED = ["kaem_thermo", "pixel_ebm", "two_stage_vae", "classifier"]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """The data are prepared once for all trainings here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KAEM_CACHE_ROOT", str(tmp_path_factory.mktemp("cache")))
        yield


def training_job(model: str, **changes):
    return job_of(tiny_config(settings(model, **changes)), "training", "digits", model)


def checkpoints_of(model: str = "vae", every: float = 0, **options) -> Checkpoints:
    return Checkpoints(training_job(model), CPU, every, StopRequests(), **options)


def train(model: str, checkpoints=None, **options):
    return train_model(training_job(model), bars_dataset(), CPU, "none", checkpoints, **options)


@pytest.fixture
def command(tmp_path, monkeypatch):
    """(model, **changes) -> the command that trains it in a working directory of its own."""
    monkeypatch.chdir(tmp_path)
    return lambda model, **changes: train_words(
        model, write_config(tmp_path / "tiny.yaml", settings(model, **changes))
    )


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """model -> what a training leaves that nothing disturbed, and the seconds that it took."""
    outcomes = {}

    def result(model: str):
        if model not in outcomes:
            folder = tmp_path_factory.mktemp(model)
            with working_folder(folder):
                config = write_config(folder / "tiny.yaml", settings(model))
                started = time.perf_counter()
                assert end(begin(train_words(model, config), folder / "log")) == 0
                outcomes[model] = results(RUN), time.perf_counter() - started
        return outcomes[model]

    return result


# The state ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", SETTINGS)
def test_a_training_goes_on_from_its_state_as_if_nothing_had_been(model):
    # A library may draw from the global generator: its state is restored too.
    build = watched(lambda _model, x, _index: x.mul_(torch.rand(())))
    whole, checkpoints = train(model, build=build), MemoryCheckpoints(9)  # of five batches an epoch
    with pytest.raises(Interrupted):
        train(model, checkpoints, build=build)
    checkpoints.state.values["seconds"] = 1000.0
    rest = MemoryCheckpoints(state=checkpoints.state)
    resumed = train(model, rest, build=build)
    assert outcome(resumed) == outcome(whole)
    assert rest.updates == UPDATES - 9
    assert 1000 < resumed.history.rows[-1]["seconds"] < 1100


# Processes that are killed -----------------------------------------------------------------------


@pytest.mark.parametrize("model", KILLED)
def test_killed_at_random_moments_it_ends_the_same(model, command, uninterrupted, tmp_path):
    expected, seconds = uninterrupted(model)
    train_killed(command(model), tmp_path / "log", seconds, random.Random(0), kills=3)
    assert results(RUN) == expected


@pytest.mark.parametrize("model", ["kaem_thermo", "ddpm"])
def test_killed_while_it_writes_a_checkpoint_it_ends_the_same(
    model, command, uninterrupted, tmp_path, monkeypatch
):
    words, log, sync = command(model), tmp_path / "log", os.fsync

    def killed(descriptor):
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.match(".state-000000009.*.tmp"):
            os.kill(os.getpid(), signal.SIGKILL)
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        assert end(begin(words, log)) == -signal.SIGKILL
    (left,) = RUN.glob("checkpoints/digits/*/*/.state-*.tmp")
    assert end(begin(words, log)) == 0
    assert "goes on after update 8" in log.read_text()
    assert not left.exists()
    assert results(RUN) == uninterrupted(model)[0]


def wait_for(condition) -> None:
    while not condition():
        time.sleep(0.005)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_saves_its_state_and_says_so(number, command, tmp_path):
    words = command("vae", **{"checkpoint_seconds": 1000, "training.updates": 100})
    log, folder = tmp_path / "log", RUN / "checkpoints/digits/vae"
    pid = begin([*words, "--progress=lines"], log)
    wait_for(lambda: list(folder.glob("*/progress.json")))
    os.kill(pid, number)
    assert end(pid) == 128 + number
    assert "digits · vae · seed 0: stopped at update" in log.read_text()
    assert "the same command goes on from there" in log.read_text()
    (state,) = folder.glob("*/state-*.safetensors")
    assert not (RUN / "weights").exists()
    progress = read_progress(state.parent)
    assert progress.checkpoint.update == progress.update == int(state.stem.split("-")[1])
    assert progress.rate > 0
    assert progress.values.keys() == {"loss"}
    assert end(begin(words, log)) == 0
    assert f"goes on after update {progress.update}" in log.read_text()
    assert not folder.exists()
    # And the result is that of a training in one go.
    with working_folder(tmp_path / "whole"):
        assert end(begin(words, log)) == 0
    assert results(tmp_path / "whole" / RUN) == results(RUN)


def test_of_two_processes_one_trains_and_the_other_takes_its_result(command, tmp_path):
    words, log = command("vae", **{"training.updates": 100}), tmp_path / "second"
    first = begin(words, tmp_path / "first")
    wait_for(lambda: list(RUN.glob("checkpoints/digits/vae/*/progress.json")))
    os.kill(first, signal.SIGSTOP)
    log.touch()
    second = begin(words, log)
    wait_for(lambda: "waiting for it to end" in log.read_text())
    os.kill(first, signal.SIGCONT)
    assert (end(first), end(second)) == (0, 0)
    assert "was trained by the other process" in log.read_text()
    assert not (RUN / "checkpoints").exists()


# Faults ------------------------------------------------------------------------------------------


def state_of(update: int) -> State:
    return State(update, {"weight": torch.rand(50)}, {"seconds": 1.0})


@pytest.fixture
def two(tmp_path, monkeypatch):
    """Checkpoints that hold two small states."""
    monkeypatch.chdir(tmp_path)
    checkpoints = checkpoints_of()
    assert checkpoints.latest() is None
    for update in (11, 12, 13):
        checkpoints.after_update(update, UPDATES, 1.0, lambda: state_of(update))  # noqa: B023
    assert names(checkpoints) == [f"state-{update:09}.safetensors" for update in (12, 13)]
    assert checkpoints.latest().update == 13
    return checkpoints


def names(checkpoints: Checkpoints) -> list[str]:
    return sorted(path.name for path in checkpoints.folder.glob("state-*"))


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_said_and_the_one_before_is_used(damage, two, capsys):
    newest = two.folder / "state-000000013.safetensors"
    newest.write_bytes(damage(newest.read_bytes()))
    capsys.readouterr()
    assert two.latest().update == 12
    message = capsys.readouterr().err
    assert f"{newest}: " in message
    assert "It is kept as state-000000013.damaged; trying an older one." in message
    assert "goes on after update 12" in message
    assert newest.with_suffix(".damaged").exists()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"hash": "other"}, "is a checkpoint of other settings"),
        ({"update": ...}, "does not say which state it is"),
        ({"values": ...}, "does not say which state it is"),
    ],
    ids=str,
)
def test_a_checkpoint_of_something_else_is_refused(header, message, two, capsys):
    whole = {"hash": two.job.config_hash, "device": "cpu", "update": 13, "values": {}} | header
    header = {key: value for key, value in whole.items() if value is not ...}
    write_tensors(two.folder / "state-000000013.safetensors", {}, header)
    assert two.latest().update == 12
    assert f"state-000000013.safetensors: {message}" in capsys.readouterr().err


def test_a_training_begun_on_another_device_is_not_gone_on_with(two):
    two.device = torch.device("cuda")
    with pytest.raises(TrainingError, match="begun on device cpu, and this is cuda"):
        two.latest()


def at_loss(number: int, act):
    """Return a `build` whose model meets act(model) ahead of its loss of that number."""
    numbers = itertools.count(1)
    return watched(lambda model, *_: act(model) if next(numbers) == number else None)


@pytest.fixture
def stopped(command):
    """A training of the VAE that was stopped after update 13: its command, its checkpoints."""
    words, checkpoints = command("vae"), checkpoints_of()
    data = load_data(tiny_config(), "digits")
    build = at_loss(13, lambda _: setattr(checkpoints.stop, "signal", signal.SIGTERM))
    with pytest.raises(Stopped):
        train_model(training_job("vae"), data, CPU, "none", checkpoints, build=build)
    return words, checkpoints


@pytest.mark.parametrize(
    "damaged", [0, 1, KEPT], ids=["none_are_damaged", "one_is_damaged", "all_are_damaged"]
)
def test_damage_costs_time_alone(damaged, stopped, uninterrupted, capsys):
    words, checkpoints = stopped
    for name in names(checkpoints)[KEPT - damaged :]:
        path = checkpoints.folder / name
        path.write_bytes(DAMAGES["a bit at 0.5"](path.read_bytes()))
    assert cli.main(words) == 0
    message = capsys.readouterr().err
    assert message.count("it is damaged") == damaged
    assert f"goes on after update {13 - damaged}" in message or damaged == KEPT
    assert ("goes on" in message) == (damaged < KEPT)
    assert results(RUN) == uninterrupted("vae")[0]


def test_other_settings_do_not_go_on_from_it(stopped, capsys):
    words, checkpoints = stopped
    assert cli.main([*words, "--set", "training.learning_rate=0.001"]) == 0
    assert "goes on" not in capsys.readouterr().err
    assert len(names(checkpoints)) == KEPT  # those of the settings before still have theirs


def test_what_a_killed_writer_left_is_removed_by_the_next_one(command):
    weights = RUN / "weights/digits/vae"
    weights.mkdir(parents=True)
    (weights / ".seed0.safetensors.0123abcd.tmp").write_bytes(b"half")
    assert cli.main(command("vae")) == 0
    assert [path.name for path in weights.iterdir()] == ["seed0.safetensors"]


def full(path, *_):
    raise OSError(errno.ENOSPC, "No space left on device", str(path))


def test_a_disk_that_is_full_at_the_end_keeps_the_state(
    command, uninterrupted, monkeypatch, capsys
):
    words = command("vae", checkpoint_seconds=0)
    with monkeypatch.context() as patch:
        patch.setattr("benchmark.steps.save_weights", full)
        assert cli.main(words) == 1
    message = capsys.readouterr().err
    assert "vae/seed0.safetensors: No space left on device" in message
    assert "free some space" in message
    assert cli.main(words) == 0
    assert f"goes on after update {UPDATES}" in capsys.readouterr().err
    assert results(RUN) == uninterrupted("vae")[0]


def test_a_clock_that_jumps_changes_nothing(command, uninterrupted, monkeypatch):
    words, jumps = command("vae"), itertools.cycle((1e9, -1e9))
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    assert cli.main(words) == 0
    assert results(RUN) == uninterrupted("vae")[0]


def test_a_folder_that_cannot_be_written_is_refused_before_the_training(
    command, monkeypatch, capsys
):
    words, make = command("vae"), Path.mkdir

    def read_only(self, *arguments, **options):
        if "checkpoints" in self.parts:
            raise OSError(errno.EROFS, "Read-only file system", str(self))
        make(self, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", read_only)
    assert cli.main(words) == 1
    message = capsys.readouterr().err
    assert "Read-only file system" in message
    assert "make it writable" in message


@pytest.mark.usefixtures("command")
def test_a_full_disk_costs_a_checkpoint_and_not_the_training(capsys):
    def write(path, *arguments):
        (full if path.stem.endswith("15") else write_tensors)(path, *arguments)

    checkpoints = checkpoints_of(write=write)
    assert outcome(train("vae", checkpoints)) == outcome(train("vae"))
    message = capsys.readouterr().err
    assert "no checkpoint could be written: No space left on device; training goes on" in message
    assert names(checkpoints) == [f"state-{update:09}.safetensors" for update in (14, 16)]


def spoil(model) -> None:
    model.decoder.linear.weight.data[0, 0] = torch.nan


def spoil_gradient(model) -> None:
    model.decoder.linear.weight.register_hook(lambda gradient: gradient * torch.inf)


def lose_gpu(_model) -> None:
    raise torch.AcceleratorError("CUDA error: GPU is lost\nCompile with TORCH_USE_CUDA_DSA")


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            spoil,
            f"the loss is nan at update 10 of {UPDATES}\n"
            r"  It was batch 5 of epoch 2, training images [\d, .]+\n"
            r"  The first that is not finite: parameter decoder\.linear\.weight\.",
        ),
        (
            spoil_gradient,
            f"a gradient is not finite at update 10 of {UPDATES}\n.*\n"
            r"  The first that is not finite: the gradient of decoder\.linear\.weight\.",
        ),
        (lose_gpu, "the GPU failed in update 10: CUDA error: GPU is lost\n"),
    ],
    ids=["no_number_keeps", "found_before_it_does_harm", "gpu_that_disappears"],
)
@pytest.mark.usefixtures("command")
def test_what_fails_keeps_the_last_good_state(act, message, capsys):
    checkpoints = checkpoints_of()
    with pytest.raises(TrainingError, match=message) as error, checkpoints.held():
        train("vae", checkpoints, build=at_loss(10, act))
    state = checkpoints.folder / "state-000000009.safetensors"
    assert f"The last good state is kept: {state}" in str(error.value)
    assert outcome(train("vae", checkpoints_of())) == outcome(train("vae"))
    assert "goes on after update 9" in capsys.readouterr().err


# Keeping -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "writing", "updates", "expected"),
    [
        (1.0, 0.0, 200, [60, 120, 180, 200]),  # the last one, for what comes after it may fail
        (1.0, 0.0, 50, []),  # short ones need none
        (10.0, 10.0, 120, [6, 56, 106, 120]),
    ],
)
def test_checkpoints_come_by_wall_time_of_which_writing_takes_a_fiftieth_at_most(
    seconds, writing, updates, expected, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    clock, written = 0.0, []

    def write(path, *_):
        nonlocal clock
        clock += writing
        written.append(int(path.stem.split("-")[1]))

    monkeypatch.setattr(time, "monotonic", lambda: clock)
    checkpoints = checkpoints_of(every=60, write=write)
    checkpoints.latest()
    for update in range(1, updates + 1):
        clock += seconds
        checkpoints.after_update(update, updates, 1.0, lambda: state_of(update))  # noqa: B023
    assert written == expected


def test_a_request_to_stop_is_for_the_first_signal_alone():
    stop, before = StopRequests(), signal.getsignal(signal.SIGTERM)
    with stop.noted():
        signal.raise_signal(signal.SIGTERM)
        assert stop.signal == signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) == before
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_thread_that_cannot_listen_to_signals_trains_all_the_same():
    def work() -> bool:
        with StopRequests().noted():
            return True

    with ThreadPoolExecutor() as pool:
        assert pool.submit(work).result()


def test_a_lock_that_is_held_for_an_instant_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoints = checkpoints_of()
    checkpoints.folder.mkdir(parents=True)
    (checkpoints.folder / ".state-000000014.x.tmp").write_bytes(b"half")
    lock = FileLock(checkpoints.folder / "lock", thread_local=False)
    lock.acquire()
    threading.Timer(0.2, lock.release).start()
    with checkpoints.held() as rival:
        assert not rival
        assert [path.name for path in checkpoints.folder.iterdir()] == ["lock"]
