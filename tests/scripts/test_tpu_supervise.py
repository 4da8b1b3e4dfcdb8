"""scripts/tpu.sh supervise, through preemptions, dead workers and failures."""

import pytest

from tests.scripts.cloud import SLICES, calls, set_lives, steps, tpu

STARTED = ["install", "copy-corpus", "start"]


def supervised(folder, *lives, code=0, **changes):
    set_lives(folder, *lives)
    result = tpu(folder, "supervise", "base", **changes)
    assert result.returncode == code, result.stdout + result.stderr
    return result


@pytest.mark.parametrize("accelerator_type", SLICES)
def test_a_preempted_run_is_taken_up_again(world, accelerator_type):
    result = supervised(
        world,
        {
            "queue": ["CREATING", "WAITING_FOR_RESOURCES", "PROVISIONING"],
            "runs": [["running", "running", "silent", "SUSPENDING", "SUSPENDED"]],
        },
        {"queue": ["WAITING_FOR_RESOURCES"], "runs": [["running", "running", "finished"]]},
        accelerator_type=accelerator_type,
        SPOT="1",
    )
    assert steps(world) == ["create", *STARTED, "delete", "create", *STARTED, "save-log", "delete"]
    assert all("--spot" in call for call in calls(world) if "create" in call)
    assert "is SUSPENDED: restart 1 of at most 20" in result.stdout
    assert "the run is complete" in result.stdout
    assert "bert-jax is deleted" in result.stdout


def test_a_worker_that_died_is_no_reason_for_a_new_slice(world):
    """The others stop by themselves, or are stopped by the next start after a while."""
    one_dead = "running, running, killed, running"
    all_dead = "ended 1, ended 1, killed, ended 1"
    result = supervised(
        world,
        {"runs": [["running", one_dead, one_dead, all_dead], ["running", one_dead], ["finished"]]},
    )
    assert steps(world) == ["create", *STARTED * 3, "save-log", "delete"]
    assert "0 of 4 workers train: restart 1" in result.stdout
    assert "3 of 4 workers train: restart 2" in result.stdout
    assert "worker t1v-n-0-w-2: killed" in result.stdout


def test_a_run_that_ends_is_left_to_end(world):
    """Workers do not end at the same moment, and the summary is written last."""
    ending = "running, ended 0, ended 0, ended 0"
    supervised(world, {"runs": [["running", ending, ending, "finished"]]})
    assert steps(world) == ["create", *STARTED, "save-log", "delete"]


def test_a_run_that_is_going_on_is_only_watched(world):
    set_lives(world, {"runs": [["running", "running", "finished"]]})
    tpu(world, "create")
    tpu(world, "launch", "base")
    assert tpu(world, "supervise", "base").returncode == 0
    assert steps(world) == ["create", "start", "save-log", "delete"]


def test_workers_that_never_answer_get_a_new_slice(world):
    result = supervised(world, {"runs": [["running", "silent, running, running, running"]]},
                        {"runs": [["finished"]]})  # fmt: skip
    assert "only 3 of 4 workers answer: restart 1" in result.stdout
    assert steps(world) == ["create", *STARTED, "delete", "create", *STARTED, "save-log", "delete"]


def test_a_mistake_in_the_options_is_not_repeated(world):
    result = supervised(world, {"runs": [["ended 2"]]}, code=2)
    assert "the run refuses to start" in result.stderr
    assert steps(world) == ["create", *STARTED]


def test_a_run_that_ends_before_it_trains_is_not_repeated(world):
    result = supervised(world, {"runs": [["ended 0"]]}, code=2)
    assert "the run ended at once and is not complete" in result.stderr
    assert steps(world) == ["create", *STARTED]


def test_a_run_that_a_reboot_stopped_goes_on(world):
    supervised(world, {"runs": [["running", "running", "ended 0"], ["finished"]]})
    assert steps(world) == ["create", *STARTED * 2, "save-log", "delete"]


@pytest.mark.parametrize(
    ("life", "each_time", "at_last"),
    [
        ({"runs": [["running", "ended 1"]]}, STARTED, ["save-log", "delete"]),
        ({"queue": ["FAILED"]}, ["delete", "create"], ["save-log", "delete"]),
    ],
)
def test_restarts_come_to_an_end_and_so_does_the_bill(world, life, each_time, at_last):
    result = supervised(world, *[life] * 5, code=2, MAX_RESTARTS="2")
    assert "gave up after 2 restarts" in result.stderr
    first = STARTED if "runs" in life else []
    assert steps(world) == ["create", *first, *each_time * 2, *at_last]


def test_a_slice_that_somebody_deleted_is_not_requested_again(world):
    result = supervised(world, {"runs": [["running", "gone"]]}, code=2)
    assert "deleted by somebody else" in result.stderr
    assert steps(world) == ["create", *STARTED]


def test_gcloud_may_fail_for_a_while(world):
    offline = ["offline"] * 18
    supervised(world, {"runs": [["running", *offline, "running", *offline, "finished"]]})
    assert steps(world) == ["create", *STARTED, "save-log", "delete"]


def test_gcloud_may_not_fail_for_ever(world):
    result = supervised(world, {"runs": [["running", "offline"]]}, code=2)
    assert "gcloud failed 30 times" in result.stderr
