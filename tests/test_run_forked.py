"""Forked processes are as fresh as a new Python, end as it ends, and get what a launcher sets."""

import os
import signal
import sys
import time

import torch.distributed as dist
from run_forked import Forked, launched_environments, run_command, run_launched, run_processes, run_recipe


def describe(text: str) -> None:
    print(text, os.getcwd(), os.environ["PLACE"], os.getppid() != os.getpid())
    print("a warning", file=sys.stderr)
    sys.exit(3)


def wait() -> None:
    print("ready")
    time.sleep(60)


def add_ranks() -> None:
    import torch

    dist.init_process_group("gloo")
    total = torch.tensor(float(dist.get_rank() + 1))
    dist.all_reduce(total)
    print(total.item())
    dist.destroy_process_group()


def test_streams_status_folder_and_environment(tmp_path):
    done = Forked(describe, "text", environment={"PLACE": "here"}, cwd=tmp_path).end()
    assert done == (3, f"text {tmp_path} here True\n", "a warning\n")


def test_a_killed_process():
    process = Forked(wait)
    process.wait_for("ready")
    process.kill()
    assert process.end().returncode == -signal.SIGKILL


def test_several_processes_form_a_group():
    assert [done[:2] for done in run_processes(add_ranks, processes=3)] == [(0, "6.0\n")] * 3


def test_a_recipe_and_a_command_end_in_one_line(tmp_path):
    expected = "error: the recipe 'nowhere.yaml' does not exist; `class-hf --help` lists the shipped files.\n"
    for done in (
        run_recipe("train", "nowhere.yaml", "--data_dir", tmp_path),
        run_command("train", "nowhere.yaml", "--data_dir", tmp_path),
    ):
        assert done == (1, "", expected)


def test_what_accelerate_sets():
    (one,) = launched_environments("--config_file", "recipes/accelerate/cpu.yaml")
    assert one["ACCELERATE_MIXED_PRECISION"] == "no" and "RANK" not in one
    two = launched_environments("--config_file", "recipes/accelerate/cpu_2_processes.yaml", "--main_process_port", 0)
    assert [(variables["RANK"], variables["WORLD_SIZE"]) for variables in two] == [("0", "2"), ("1", "2")]


def fail_on_the_second() -> None:
    assert "TORCHELASTIC_RUN_ID" in os.environ
    print("rank", os.environ["RANK"])
    sys.exit(int(os.environ["RANK"]))


def test_a_launcher_ends_as_its_processes_end():
    options = ["--quiet", "--config_file", "recipes/accelerate/cpu_2_processes.yaml", "--main_process_port", 0]
    done = run_launched(options, fail_on_the_second)
    # The launcher may end rank 0 before it prints, because rank 1 has failed.
    assert done.returncode == 1 and "rank 1" in done.stdout.splitlines(), done
