"""The loop: against a bare loop of PyTorch, interrupted, diverging, out of memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from dinorad_rt.errors import DeviceMemoryError, DivergedError, OutputExistsError, TrainingError
from dinorad_rt.files import only_writer
from dinorad_rt.training.history import EpochRecord
from dinorad_rt.training.loop import _line, fit
from dinorad_rt.training.run_folder import read_run, write_best, write_run
from dinorad_rt.training.settings import TrainSettings

SETTINGS = TrainSettings(epochs=4, batch_size=8, lr=0.02, ema=0.9, device="cpu")


def weights(job: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in job.module.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_without_its_extras_it_is_the_plain_loop_of_pytorch(toy_job: Any, tmp_path: Path) -> None:
    settings = TrainSettings(
        epochs=2, lr=0.05, optimizer="sgd", weight_decay=0.01, clip_norm=None, warmup=0.0,
        schedule="constant", batch_size=8, device="cpu",
    )  # fmt: skip
    ours, bare = toy_job(), toy_job()
    for job in (ours, bare):
        job.module[3] = nn.Identity()  # dropout draws from another stream
    history = fit(ours, settings, tmp_path / "run")
    optimizer = torch.optim.SGD(bare.module.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)
    losses, kept = [], []
    for epoch in range(2):
        bare.module.train()
        for batch in bare.train_batches(epoch, 0):
            loss, _ = bare.loss(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        kept.append(weights(bare))
    assert history.losses == losses
    assert history.best is not None
    assert same(weights(ours), kept[history.best.epoch - 1])


@pytest.mark.parametrize("stop_after", [2, 9, 12, 17])
def test_resumed_is_uninterrupted_to_the_bit(
    stop_after: int, toy_job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = toy_job()
    history = fit(whole, SETTINGS, tmp_path / "whole")
    settings = TrainSettings(**{**SETTINGS.as_dict(), "save_minutes": 1e-9})

    def stop(done: int, total: int) -> None:
        if done == stop_after:
            raise KeyboardInterrupt

    broken = toy_job()
    with pytest.raises(KeyboardInterrupt):
        fit(broken, settings, tmp_path / "broken", progress=stop)
    torch.manual_seed(99)
    torch.rand(5)
    again = toy_job()
    said: list[str] = []
    resumed = fit(again, settings, tmp_path / "broken", say=said.append)
    assert "going on" in said[0]
    assert len(again.seen) == 24 - stop_after
    assert resumed.losses == history.losses
    assert [e.metrics for e in resumed.epochs] == [e.metrics for e in history.epochs]
    assert [e.loss for e in resumed.epochs] == [e.loss for e in history.epochs]
    assert same(weights(again), weights(whole))
    assert same(
        load_file(tmp_path / "whole/best.safetensors"),
        load_file(tmp_path / "broken/best.safetensors"),
    )


def test_a_finished_run_is_answered_from_disk(toy_job: Any, tmp_path: Path) -> None:
    first = fit(toy_job(), SETTINGS, tmp_path / "run")
    job = toy_job()
    assert fit(job, SETTINGS, tmp_path / "run").losses == first.losses
    assert not job.seen
    facts = json.loads((tmp_path / "run/train.json").read_text())
    assert facts["history"]["stopped"] == "finished"
    assert facts["parameters"]["trained"] == sum(p.numel() for p in job.module.parameters())


def test_a_run_killed_behind_its_last_state_tells_its_end(
    toy_job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state is written before train.json, which then lacks the last epoch."""
    wanted = fit(toy_job(), SETTINGS, tmp_path / "whole")

    def killed(folder: Path, facts: Any) -> None:
        if facts["history"]["stopped"]:
            raise KeyboardInterrupt
        write_run(folder, facts)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("dinorad_rt.training.loop.write_run", killed)
        fit(toy_job(), SETTINGS, tmp_path / "run")
    assert fit(toy_job(), SETTINGS, tmp_path / "run").losses == wanted.losses
    told = read_run(tmp_path / "run")["history"]
    assert (told["stopped"], len(told["epochs"])) == ("finished", SETTINGS.epochs)


def test_another_run_in_the_folder_is_refused_by_name(toy_job: Any, tmp_path: Path) -> None:
    fit(toy_job(), SETTINGS, tmp_path / "run")
    other = TrainSettings(**{**SETTINGS.as_dict(), "lr": 0.5})
    with pytest.raises(OutputExistsError, match=r"settings\.lr\."):
        fit(toy_job(), other, tmp_path / "run")


def test_accumulated_steps_are_those_of_the_large_batch(toy_job: Any, tmp_path: Path) -> None:
    runs = []
    for batch, accumulate in ((16, 1), (8, 2)):
        job = toy_job(batch)
        job.module[1], job.module[3] = nn.Identity(), nn.Identity()
        settings = TrainSettings(
            epochs=2, batch_size=batch, accumulate=accumulate, lr=0.02, device="cpu"
        )
        runs.append(fit(job, settings, tmp_path / str(batch)))
    assert runs[0].losses == pytest.approx(runs[1].losses, abs=1e-5)
    assert runs[1].losses[-1] < runs[1].losses[0]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_learns_and_keeps_fp32_weights(
    precision: Any, toy_job: Any, tmp_path: Path
) -> None:
    settings = TrainSettings(
        epochs=6, batch_size=8, lr=0.02, precision=precision, device="cpu", warmup=0.0
    )
    job = toy_job()
    history = fit(job, settings, tmp_path / "run")
    assert history.epochs[-1].loss < history.epochs[0].loss
    assert {p.dtype for p in job.module.parameters()} == {torch.float32}


def test_patience_stops_and_the_best_weights_are_back(toy_job: Any, tmp_path: Path) -> None:
    settings = TrainSettings(
        epochs=50, batch_size=8, lr=0.1, warmup=0.0, patience=2, schedule="constant", device="cpu"
    )
    job = toy_job()
    history = fit(job, settings, tmp_path / "run")
    assert history.stopped == "patience"
    assert history.best is not None and history.epochs_since_best() == 2
    assert not job.module.training
    with torch.no_grad():
        assert job.validate() == history.best.metrics


def test_a_nan_loss_stops_and_keeps_the_last_good_checkpoint(toy_job: Any, tmp_path: Path) -> None:
    job = toy_job(poison=14)
    with pytest.raises(DivergedError, match=r"loss is nan at step 1[3-5].*best checkpoint") as told:
        fit(job, SETTINGS, tmp_path / "run")
    assert "--lr 0.002" in told.value.fix
    kept = load_file(tmp_path / "run/best.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in kept.values())
    again = fit(toy_job(), SETTINGS, tmp_path / "run")  # the state before it is good, too
    assert again.losses == fit(toy_job(), SETTINGS, tmp_path / "other").losses


def test_answers_that_are_no_numbers_are_no_best_epoch(
    toy_job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Huge weights are finite, and the accuracy of NaN is a number."""
    job = toy_job()
    nan = {"accuracy": 0.9, "loss": float("nan")}
    monkeypatch.setattr(job, "validate", lambda: nan)
    with pytest.raises(DivergedError, match=r"validation loss is nan at step 6 .* no checkpoint"):
        fit(job, SETTINGS, tmp_path / "run")
    assert not (tmp_path / "run/best.safetensors").exists()


def test_weights_that_break_in_an_epochs_last_step_are_not_kept(
    toy_job: Any, tmp_path: Path
) -> None:
    job = toy_job()
    job.module[0].weight.register_hook(
        lambda gradient: gradient * float("inf") if len(job.seen) == 6 else gradient
    )
    with pytest.raises(DivergedError, match="no checkpoint"):
        fit(job, SETTINGS, tmp_path / "run")
    assert not (tmp_path / "run/best.safetensors").exists()
    assert not (tmp_path / "run/last.pt").exists()


def test_out_of_memory_says_what_was_found_to_fit(
    toy_job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = toy_job()
    plain = job.loss

    def tight(batch: Any) -> Any:
        if len(batch["labels"]) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return plain(batch)

    monkeypatch.setattr(job, "loss", tight)
    with pytest.raises(DeviceMemoryError, match="one of 2 does") as told:
        fit(job, SETTINGS, tmp_path / "run")
    assert "--batch-size 2 --accumulate 4" in told.value.fix


def test_a_parameter_without_gradient_is_an_error(toy_job: Any, tmp_path: Path) -> None:
    job = toy_job()
    job.module.idle = nn.Linear(2, 2)
    job.module.forward = lambda x: nn.Sequential(*list(job.module)[:5])(x)
    with pytest.raises(TrainingError, match=r"no gradient, such as idle\.weight"):
        fit(job, SETTINGS, tmp_path / "run")


def test_bad_settings_are_named() -> None:
    for values, name in (({"lr": 0.0}, "--lr"), ({"epochs": 0}, "--epochs"), ({"ema": 1.0}, "ema")):
        with pytest.raises(TrainingError) as told:
            TrainSettings(**values)  # type: ignore[arg-type]
        assert name in str(told.value)


def test_tensorboard_files_hold_the_curve(toy_job: Any, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = fit(toy_job(), SETTINGS, tmp_path / "run", tensorboard=True)
    events = EventAccumulator(str(tmp_path / "run/tensorboard"))
    events.Reload()
    found = [event.value for event in events.Scalars("val/accuracy")]
    assert found == pytest.approx([record.metrics["accuracy"] for record in history.epochs])


def test_a_second_process_of_one_run_is_refused(toy_job: Any, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with only_writer(tmp_path / "run"), pytest.raises(OutputExistsError, match="Another process"):
        fit(toy_job(), SETTINGS, tmp_path / "run")
    assert fit(toy_job(), SETTINGS, tmp_path / "run").stopped == "finished"


def test_the_same_checkpoint_gives_the_same_bytes(tmp_path: Path) -> None:
    tensors = {"b": torch.ones(2), "a": torch.zeros(3)}
    found = set()
    for _ in range(16):  # safetensors writes several entries of metadata in a random order
        write_best(tmp_path, tensors, epoch=3)
        found.add((tmp_path / "best.safetensors").read_bytes())
    assert len(found) == 1


def test_averaged_weights_are_judged_and_kept_with_statistics_of_their_own(
    toy_job: Any, tmp_path: Path
) -> None:
    """Those that PyTorch computes for them; the live network keeps its own."""
    job = toy_job()
    job.module[3] = nn.Identity()  # PyTorch leaves dropout on
    plain = toy_job()
    plain.module[3] = nn.Identity()
    settings = TrainSettings(**{**SETTINGS.as_dict(), "epochs": 2})
    history = fit(job, settings, tmp_path / "run")
    without = TrainSettings(**{**settings.as_dict(), "ema": None})
    assert fit(plain, without, tmp_path / "plain").losses == history.losses

    assert history.best is not None
    kept = weights(job)
    batches = [batch["inputs"] for batch in job.train_batches(history.best.epoch - 1, 0)]
    torch.optim.swa_utils.update_bn(batches, job.module)
    wanted = weights(job)
    assert kept.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(kept[name], tensor)
    job.module.eval()
    with torch.no_grad():
        assert job.validate() == pytest.approx(history.best.metrics, abs=1e-6)
    state = torch.load(tmp_path / "run/last.pt", weights_only=True)["module"]
    assert not torch.allclose(state["1.running_mean"], kept["1.running_mean"])
    assert state["1.num_batches_tracked"] == 12


def test_a_line_of_an_epoch_says_its_number_once() -> None:
    record = EpochRecord(
        epoch=3,
        step=30,
        loss=0.25,
        parts={},
        lr=1e-3,
        metrics={"dice": 0.8, "epoch": 3.0, "loss": 0.3},
        best=True,
        seconds=1.5,
    )
    line = _line(record, TrainSettings(epochs=5), "dice")
    assert line == "epoch 3/5  loss 0.2500  val dice 0.8000  loss 0.3000  1.5 s  (best so far)"
