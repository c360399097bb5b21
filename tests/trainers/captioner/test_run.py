"""A stage of the captioner's training: conversations in, a captioner out, on one process and on two."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import psutil
import pytest
import torch
import yaml
from repository import ROOT
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from recap_spark.errors import InputError, SettingsError
from recap_spark.settings.captioner_run import CaptionerRun, LoraSettings, load_run
from recap_spark.trainers.captioner.conversations import collate, read_conversations, tokenise
from recap_spark.trainers.captioner.run import summed_loss, train_captioner


def changed(run: CaptionerRun, **values: object) -> CaptionerRun:
    return CaptionerRun.model_validate(run.model_dump() | values)


def tracked_losses(run: CaptionerRun) -> list[float]:
    """The losses in MLflow by step; of a step that was taken twice, the last."""
    client = mlflow.MlflowClient(run.tracking.uri or f"sqlite:///{run.folder}/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'tests'")
    (only,) = client.search_runs([experiment.experiment_id], f"params.folder = '{run.folder}'")
    history = client.get_metric_history(only.info.run_id, "loss")
    by_step = {point.step: point.value for point in sorted(history, key=lambda point: point.timestamp)}
    return [by_step[step] for step in sorted(by_step)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return LlavaForConditionalGeneration.from_pretrained(folder, local_files_only=True).state_dict()


def start_torchrun(run: CaptionerRun, folder: Path, *, processes: int) -> subprocess.Popen[str]:
    conf = folder / "run.yml"
    conf.write_text(yaml.safe_dump(run.model_dump()))
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, "-m", *launch, "-m", "recap_spark.trainers.captioner.run", str(conf)]
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_every_stage_s_settings_are_whole(stage):
    run = load_run(ROOT / "conf" / "train" / f"captioner_stage{stage}.yml")
    assert run.name == f"captioner_stage{stage}"
    assert run.trains == ("projector" if stage == 1 else "projector_and_decoder")


def test_updates_of_a_decoder_that_does_not_train_are_refused(tmp_path):
    (tmp_path / "lora.yml").write_text("lora: {rank: 2, alpha: 4, dropout: 0.0}")
    with pytest.raises(SettingsError, match="lora: want trains projector_and_decoder"):
        load_run(ROOT / "conf" / "train" / "captioner_stage1.yml", tmp_path / "lora.yml")


def test_a_run_learns_and_leaves_a_captioner_that_loads_and_its_losses_beside_it(run, school):
    run = changed(run, tracking={"uri": None, "experiment": "tests"})
    losses = train_captioner(run)
    assert len(losses) == 8
    assert losses[-1] < 0.9 * losses[0]
    assert tracked_losses(run) == pytest.approx(losses)
    before, after = weights(school / "start"), weights(Path(run.folder) / "captioner")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert not any("vision_tower" in name for name in moved)
    assert LlavaProcessor.from_pretrained(Path(run.folder) / "captioner").chat_template


def test_a_first_stage_moves_the_projector_alone(run, school, tmp_path):
    data = run.data.model_dump() | {"template": "plain", "file": str(tmp_path / "pairs.json"), "fit": "crop"}
    pairs = [record for record in json.loads(Path(run.data.file).read_text()) if "image" in record]
    Path(data["file"]).write_text(json.dumps(pairs))
    train_captioner(changed(run, trains="projector", data=data, epochs=1))
    before, after = weights(school / "start"), weights(Path(run.folder) / "captioner")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if "multi_modal_projector" in name}


def test_the_three_stages_of_conf_follow_each_other_from_two_parts_to_a_captioner(
    school, parts, tmp_path, conversations, tracking_uri
):
    pairs = tmp_path / "pairs.json"
    pairs.write_text(json.dumps([one for one in conversations if "image" in one]))
    losses = {}
    for stage, file in ((1, pairs), (2, school / "conversations.json"), (3, pairs)):
        # What differs here is where the run is and how large: all else is as on a cluster.
        small: dict[str, object] = {
            "folder": str(tmp_path / str(stage)),
            "device": "cpu",
            "start": parts.model_dump() if stage == 1 else str(tmp_path / str(stage - 1) / "captioner"),
            "data": {"file": str(file), "images": str(school / "images"), "loader_processes": 0},
            "batch_size": 4,
            "micro_batch_size": 2,
            "checkpoint_every": 2,
            "tracking": {"uri": tracking_uri},
        }
        (tmp_path / "small.yml").write_text(yaml.safe_dump(small))
        run = load_run(ROOT / "conf" / "train" / f"captioner_stage{stage}.yml", tmp_path / "small.yml")
        losses[stage] = train_captioner(run)
    assert {stage: len(steps) for stage, steps in losses.items()} == {1: 2, 2: 4, 3: 2}
    assert all(loss == loss for steps in losses.values() for loss in steps)
    captioner = LlavaForConditionalGeneration.from_pretrained(tmp_path / "3" / "captioner")
    assert len(captioner.generation_config.eos_token_id) == 2


def test_micro_batches_of_any_size_give_the_same_losses(run, tmp_path):
    whole = train_captioner(changed(run, micro_batch_size=4, folder=str(tmp_path / "whole")))
    single = train_captioner(changed(run, micro_batch_size=1, folder=str(tmp_path / "single")))
    assert single == pytest.approx(whole, rel=1e-4)


def test_a_run_that_goes_on_from_a_checkpoint_gives_the_losses_of_one_that_never_stopped(run, tmp_path):
    lora = {"rank": 2, "alpha": 4, "dropout": 0.2}
    run = changed(run, lora=lora)
    losses = train_captioner(run)
    later = changed(run, folder=str(tmp_path / "later"))
    shutil.copytree(Path(run.folder) / "step-00000003", Path(later.folder) / "step-00000003")
    # What a killed process was writing is no checkpoint.
    (Path(later.folder) / "step-00000006.unfinished").mkdir()
    assert train_captioner(later) == losses[3:]
    first, second = weights(Path(run.folder) / "captioner"), weights(Path(later.folder) / "captioner")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_checkpoint_of_another_run_is_refused_and_says_what_differs(run):
    train_captioner(changed(run, epochs=1))
    with pytest.raises(SettingsError, match=r"step-00000004.*epochs '1'.*peak_rate '0.01'"):
        train_captioner(changed(run, peak_rate=2e-2))


def test_the_oldest_checkpoints_go(run):
    train_captioner(changed(run, checkpoint_every=1, checkpoints_kept=2))
    kept = sorted(path.name for path in Path(run.folder).glob("step-*"))
    assert kept == ["step-00000007", "step-00000008"]


def test_updates_of_low_rank_leave_the_decoder_s_own_names_and_the_head(run, school):
    train_captioner(changed(run, lora=LoraSettings(rank=2, alpha=4, dropout=0.0).model_dump()))
    before, after = weights(school / "start"), weights(Path(run.folder) / "captioner")
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("q_proj" in name for name in moved)
    assert not any("lm_head" in name or "norm" in name or "embed_tokens" in name for name in moved)


def test_bfloat16_learns_and_keeps_float32_weights(run):
    losses = train_captioner(changed(run, precision="bfloat16", saved_dtype="bfloat16"))
    assert losses[-1] < 0.9 * losses[0]
    assert {tensor.dtype for tensor in weights(Path(run.folder) / "captioner").values()} == {torch.bfloat16}


def test_a_batch_that_cannot_be_shared_out_evenly_is_an_error(run):
    with pytest.raises(SettingsError, match="want a multiple of 1 processes × micro_batch_size 3, found 4"):
        train_captioner(changed(run, micro_batch_size=3))


def test_a_picture_that_is_not_there_is_an_error_with_its_path(run, tmp_path):
    data = run.data.model_dump() | {"images": str(tmp_path)}
    with pytest.raises(InputError, match=r"(red|green|blue|white)\.png: want a picture"):
        train_captioner(changed(run, data=data))


def test_the_loss_is_transformers_own(school, processor):
    model = LlavaForConditionalGeneration.from_pretrained(school / "start", local_files_only=True).eval()
    talks = [talk for talk in read_conversations(school / "conversations.json") if talk.image is None]
    examples = [
        tokenise(talk, processor=processor, patches=64, template="chat", longest=256) for talk in talks[:3]
    ]
    inputs = collate(examples, pad_id=processor.tokenizer.pad_token_id)
    theirs = model(**inputs).loss * sum(sum(example.learned) for example in examples)
    ours = summed_loss(model, inputs, precision=torch.float32)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)


@pytest.mark.cluster
def test_two_processes_learn_in_bfloat16_and_save_what_one_can_load(run, school, tmp_path):
    lora = {"rank": 2, "alpha": 4, "dropout": 0.05}
    run = changed(run, precision="bfloat16", lora=lora, micro_batch_size=1)
    said, _ = start_torchrun(run, tmp_path, processes=2).communicate(timeout=300)
    losses = tracked_losses(run)
    assert len(losses) == 8, said[-3000:]
    assert losses[-1] < losses[0]
    before, after = weights(school / "start"), weights(Path(run.folder) / "captioner")
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("q_proj" in name for name in moved)
    assert not any("vision_tower" in name for name in moved)


@pytest.mark.cluster
def test_two_processes_give_the_losses_of_one_and_one_goes_on_where_two_were_killed(run, tmp_path):
    run = changed(run, micro_batch_size=1, checkpoint_every=1, epochs=8, peak_rate=1e-3)
    alone = train_captioner(changed(run, folder=str(tmp_path / "alone")))
    started = start_torchrun(run, tmp_path, processes=2)
    while not any(Path(run.folder).glob("step-????????")) and started.poll() is None:
        time.sleep(0.01)
    # torchrun gives each process a session of its own: they outlive it, were it killed alone.
    for process in [*psutil.Process(started.pid).children(recursive=True), started]:
        process.kill()
    said, _ = started.communicate()
    done = sorted(Path(run.folder).glob("step-????????"))
    assert done, said[-3000:]
    assert len(list(done[-1].glob("part-*-of-00002.safetensors"))) == 2
    rest = train_captioner(run)
    assert 0 < len(rest) < len(alone) == 32
    assert tracked_losses(run) == pytest.approx(alone, rel=1e-3)
