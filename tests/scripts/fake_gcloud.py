"""Plays gcloud: notes each call, and acts out slices that come, train and go.

WORLD is a folder with `calls` (a JSON list of arguments on each line), `state.json` (of this file)
and `lives.json`: the lives of the slices that `create` brings, one after the other. A life has a
"queue", the states before it is ACTIVE, and "runs": what a look finds after each start of the
training. A look is

* a state of the slice, such as "SUSPENDED";
* what the workers say, such as "running" or, one for each, "running, killed, ended 1, running";
  "silent" is a worker that does not answer;
* "finished": the training ended and left its summary;
* "gone": somebody else deleted the slice;
* "offline": gcloud itself fails.
"""

import json
import os
import sys
from pathlib import Path

WORLD = Path(os.environ.get("WORLD", "."))
HOSTS = int(os.environ.get("HOSTS", "4"))


def look(state, life, advance):
    """What there is to see now; `advance` goes on to the next look."""
    if state["life"] < 0 or state["deleted"]:
        return "gone"
    if not state["starts"]:
        queue = life.get("queue", [])
        step = state["step"]
        state["step"] += advance
        return queue[step] if step < len(queue) else "not installed"
    runs = life.get("runs", [["running"]])
    looks = runs[min(state["starts"], len(runs)) - 1]
    state["step"] += advance
    return looks[min(max(state["step"] - 1, 0), len(looks) - 1)]


def main(arguments):
    with open(WORLD / "calls", "a") as calls:
        calls.write(json.dumps(arguments) + "\n")
    path = WORLD / "state.json"
    state = {"life": -1, "deleted": True, "starts": 0, "step": 0}
    if path.exists():
        state = json.loads(path.read_text())
    lives = json.loads((WORLD / "lives.json").read_text())
    code = act(arguments, state, lives[max(state["life"], 0)])
    path.write_text(json.dumps(state))
    return code


def act(arguments, state, life):
    words = " ".join(arguments)
    if words.startswith("compute tpus queued-resources list"):
        now = look(state, life, advance=True)
        if now == "offline":
            return 1
        if now == "gone":
            state["deleted"] = True
        elif now.isupper():
            print(now)
        else:
            print("ACTIVE")
    elif words.startswith("compute tpus queued-resources create"):
        if not state["deleted"]:
            print("ALREADY_EXISTS", file=sys.stderr)
            return 1
        state.update(life=state["life"] + 1, deleted=False, starts=0, step=0)
    elif words.startswith("compute tpus queued-resources delete"):
        if state["deleted"]:
            print("NOT_FOUND", file=sys.stderr)
            return 1
        state["deleted"] = True
    elif words.startswith("compute tpus tpu-vm ssh"):
        return on_workers(words.partition("--command=")[2], state, life)
    elif words.startswith("storage ls") and words.endswith("summary.json"):
        return 0 if look(state, life, advance=False) == "finished" else 1
    elif words.startswith("storage buckets describe"):
        bucket = WORLD / "bucket"
        print(bucket.read_text() if bucket.exists() else "")
        return 0 if bucket.exists() else 1
    elif words.startswith("iam service-accounts describe"):
        return 0 if (WORLD / "account").exists() else 1
    return 0


def on_workers(command, state, life):
    now = look(state, life, advance=False)
    if now.isupper() or now == "gone":
        return 255
    if "tpu_worker.sh start" in command:
        state.update(starts=state["starts"] + 1, step=0)
    elif "tpu_worker.sh state" in command:
        each = (
            ["ended 0" if now == "finished" else now] * HOSTS if "," not in now else now.split(", ")
        )
        for number, worker in enumerate(each):
            if worker != "silent":
                print(f"worker t1v-n-0-w-{number}: {worker}")
        return 255 if "silent" in each else 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
