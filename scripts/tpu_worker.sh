#!/usr/bin/env bash
# The part of scripts/tpu.sh that runs on each worker of a slice, never on your machine.
#
#   tpu_worker.sh install BUCKET                 install gcsfuse, Python, packages; mount the bucket
#   tpu_worker.sh copy-corpus BUCKET CORPUS      copy the corpus from the bucket to the local disk
#   tpu_worker.sh start BUCKET RUN CORPUS ARG..  start run_pretrain.py in the background
#   tpu_worker.sh stop                           make it save and end; kill it if it does not
#   tpu_worker.sh state                          print a line: running, ended CODE, killed or idle
#   tpu_worker.sh save-log BUCKET RUN            copy the log into the bucket
#
# It uses ~/bert_jax (code), ~/venv, ~/corpora, ~/bucket (the mounted bucket), ~/train (log, pid).

set -euo pipefail

STOP_SECONDS=${STOP_SECONDS:-300} # time for a run to save

# Orbax completes a checkpoint by renaming its folder, and metrics.jsonl is synced before that. Both
# must reach the bucket at that moment, and all workers must see immediately what one has written.
MOUNT_OPTIONS=(
    --implicit-dirs
    --enable-streaming-writes=false # otherwise fsync does not make a file visible
    --metadata-cache-ttl-secs=0
    --metadata-cache-negative-ttl-secs=0
)

mount_bucket() { # BUCKET
    if ! mountpoint -q ~/bucket; then
        mkdir -p ~/bucket
        gcsfuse "${MOUNT_OPTIONS[@]}" "$1" ~/bucket
    fi
}

install_gcsfuse() {
    local key=/usr/share/keyrings/cloud.google.asc host=https://packages.cloud.google.com/apt try
    curl --fail --silent --show-error --location "$host/doc/apt-key.gpg" | sudo tee "$key" >/dev/null
    echo "deb [signed-by=$key] $host gcsfuse-$(lsb_release -cs) main" |
        sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
    # A new VM updates itself for some minutes and holds apt's locks.
    for try in 1 2 3 4 5 6 7 8 9 10; do
        if sudo apt-get -qq update && sudo apt-get -qq --yes install gcsfuse; then
            return
        fi
        echo "apt failed (try $try of 10)"
        sleep 30
    done
    return 1
}

install() { # BUCKET
    command -v gcsfuse >/dev/null || install_gcsfuse
    mount_bucket "$1"
    python3 -m pip install --user --quiet uv
    # The images have Python 3.10, which the project does not support.
    ~/.local/bin/uv venv --quiet --allow-existing --python 3.12 ~/venv
    cd ~/bert_jax
    ~/.local/bin/uv pip install --quiet --python ~/venv/bin/python \
        --constraint constraints.txt --editable '.[tpu]'
    ~/venv/bin/python -c 'import bert_jax, libtpu'
    echo "worker $(hostname): installed"
}

copy_corpus() { # BUCKET CORPUS
    mkdir -p ~/corpora/"$2"
    gcloud storage rsync "gs://$1/corpora/$2" ~/corpora/"$2" --recursive
    echo "worker $(hostname): $(du -sh ~/corpora/"$2" | cut -f 1) in ~/corpora/$2"
}

is_running() {
    local pid
    # Another process may have the number by now.
    pid=$(cat ~/train/pid 2>/dev/null) && kill -0 -- "-$pid" 2>/dev/null &&
        grep -q run_pretrain.py "/proc/$pid/cmdline" 2>/dev/null
}

start() { # BUCKET RUN CORPUS ARGUMENT...
    local bucket=$1 run=$2 corpus=$3 try
    shift 3
    stop
    mount_bucket "$bucket" # after a reboot the run would be written to the local disk
    mkdir -p ~/train
    rm -f ~/train/exit_code
    cd ~/bert_jax
    set -- ~/venv/bin/python run_pretrain.py "$@" \
        --corpus ~/corpora/"$corpus" --work-dir ~/bucket/runs/"$run"
    echo "==== $(date) $*" >>~/train/log
    # Without JAX_PLATFORMS, jax would train on the CPU if it cannot open the TPU. The shell around
    # Python survives a SIGTERM to the group, so that it can record how the run ended.
    # shellcheck disable=SC2016 # expanded by the inner shell
    JAX_PLATFORMS=tpu,cpu nohup setsid bash -c \
        'trap : TERM; "$@"; echo $? >~/train/exit_code' run "$@" >>~/train/log 2>&1 </dev/null &
    echo $! >~/train/pid
    for try in {1..50}; do # until it has its own process group, which `stop` ends
        if is_running || [ -f ~/train/exit_code ]; then break; fi
        sleep 0.1
    done
    echo "worker $(hostname): started"
}

stop() {
    local pid second
    is_running || return 0
    pid=$(cat ~/train/pid)
    kill -TERM -- "-$pid"
    for ((second = 0; second < STOP_SECONDS; second++)); do
        if ! is_running; then
            echo "worker $(hostname): stopped"
            return
        fi
        sleep 1
    done
    kill -KILL -- "-$pid"
    echo "worker $(hostname): killed, as it did not end within $STOP_SECONDS seconds"
}

state() {
    if is_running; then
        echo "worker $(hostname): running"
    elif [ -f ~/train/exit_code ]; then
        echo "worker $(hostname): ended $(cat ~/train/exit_code)"
    elif [ -f ~/train/pid ]; then
        echo "worker $(hostname): killed"
    else
        echo "worker $(hostname): idle"
    fi
}

save_log() { # BUCKET RUN
    # Not into the run's own folder: a new run is refused in a folder that is not empty.
    [ ! -f ~/train/log ] || gcloud storage cp ~/train/log "gs://$1/logs/$2/$(hostname).log"
}

case ${1-} in
    install) install "$2" ;;
    copy-corpus) copy_corpus "$2" "$3" ;;
    start) start "${@:2}" ;;
    stop) stop ;;
    state) state ;;
    save-log) save_log "$2" "$3" ;;
    *)
        echo "error: unknown command '${1-}'; tpu_worker.sh is called by scripts/tpu.sh" >&2
        exit 2
        ;;
esac
