#!/usr/bin/env bash
# Pre-training on Cloud TPU VMs, from an empty project to the results: docs/cloud_tpu.md.
#
# usage: scripts/tpu.sh COMMAND [--dry-run] [RECIPE OPTION...]
#
#   setup               enable the APIs; create the bucket and the VMs' service account
#   upload              copy the code (the last commit) and the corpus into the bucket
#   create              request the slice; the request waits in a queue
#   wait                wait until the slice is active
#   install             install code, Python and packages on every worker
#   copy-corpus         copy the corpus from the bucket to the local disk of every worker
#   launch RECIPE ...   start run_pretrain.py RECIPE ... on every worker, in the background
#   status              show the state of the slice and its workers, and the latest metrics
#   watch               follow the log of the first worker
#   tensorboard         run TensorBoard on the first worker, shown at http://localhost:6006
#   stop                make the run save and end
#   supervise RECIPE .. do everything from create to launch, again after each preemption, until the
#                       run is complete; then delete the slice
#   collect             copy the run and its logs from the bucket into runs/
#   delete              delete the slice, which costs most
#   delete-all          delete the slice, the bucket with everything in it, and the service account
#
# --dry-run, directly after the command's name, only prints the commands that would be run.
# Settings are environment variables:
#
#   PROJECT, ZONE       of Google Cloud
#   BUCKET              name of the bucket, which is created in the zone's region
#   ACCELERATOR_TYPE    v4-8, v5e-16, v5e-256, v5p-8 or v6e-16 (v5litepod-16 and v5e:4x4 are v5e-16)
#   CORPUS              folder of the corpus on this machine, such as corpora/wikipedia
#   NAME                name of the slice (default: bert-jax)
#   RUN                 name of the run's folder (default: NAME)
#   SPOT=1              request a cheaper slice that may be preempted at any time
#   VALID_UNTIL         how long to stay in the queue, such as 6h (default: no limit)
#   RUNTIME_VERSION     image of the VMs (default: depends on ACCELERATOR_TYPE)
#   MAX_RESTARTS        restarts after which supervise gives up (default: 20)
#   POLL_SECONDS        seconds between two checks of wait and supervise (default: 60)
#   PYTHON              Python that checks a run's options here first (default: .venv/bin/python)

set -euo pipefail

# name, accelerator type, topology, hosts, image
SLICES="
v4-8 v4-8 v4:2x2x1 1 tpu-ubuntu2204-base
v5e-16 v5litepod-16 v5e:4x4 4 v2-alpha-tpuv5-lite
v5e-256 v5litepod-256 v5e:16x16 64 v2-alpha-tpuv5-lite
v5p-8 v5p-8 v5p:2x2x1 1 v2-alpha-tpuv5
v6e-16 v6e-16 v6e:4x4 4 v2-alpha-tpuv6e
"
# Options of run_pretrain.py for a slice with several hosts.
MULTI_HOST_OPTIONS="--distributed.auto --distributed.timeout 600"

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
WORKER="bash bert_jax/scripts/tpu_worker.sh"

say() { echo "$(date '+%F %T') $*"; }

fail() {
    echo "error: $*" >&2
    exit 2
}

quoted() { # the arguments as a shell reads them
    local argument separator=""
    for argument in "$@"; do
        case $argument in
            "" | *[!A-Za-z0-9_./:=@%+,-]*)
                argument="'$(printf %s "$argument" | sed "s/'/'\\\\''/g")'"
                ;;
        esac
        printf '%s%s' "$separator" "$argument"
        separator=" "
    done
}

run() {
    if $DRY_RUN; then
        quoted "$@"
        echo
    else
        "$@"
    fi
}

exists() { ! $DRY_RUN && "$@" >/dev/null 2>&1; }

on_workers() { # WHICH COMMAND
    run gcloud compute tpus tpu-vm ssh "$NAME" --project="$PROJECT" --zone="$ZONE" --quiet \
        --worker="$1" --command="$2"
}

queued_resources() { # VERB [ARGUMENT...]
    run gcloud compute tpus queued-resources "$@" --project="$PROJECT" --zone="$ZONE"
}

slice_state() { # empty if there is no such slice, where `describe` would fail
    queued_resources list --filter="name~/queuedResources/$NAME\$" --format='value(state.state)'
}

worker_states() { # a line from each worker that answers
    on_workers all "$WORKER state || echo \"worker \$(hostname): not installed\""
}

setup() {
    run gcloud services enable compute.googleapis.com tpu.googleapis.com storage.googleapis.com \
        iam.googleapis.com --project="$PROJECT"
    exists gcloud iam service-accounts describe "$ACCOUNT" --project="$PROJECT" ||
        run gcloud iam service-accounts create "${ACCOUNT%%@*}" --project="$PROJECT"
    # A checkpoint is completed by renaming its folder, which is atomic only in a hierarchical
    # namespace. Soft deletion would bill every old checkpoint for another week.
    if exists gcloud storage buckets describe "gs://$BUCKET"; then
        [ "$(gcloud storage buckets describe "gs://$BUCKET" --raw \
            --format='value(hierarchicalNamespace.enabled)')" = True ] ||
            fail "the bucket $BUCKET exists without hierarchical namespace," \
                "which checkpoints need; give another BUCKET"
    else
        run gcloud storage buckets create "gs://$BUCKET" --project="$PROJECT" \
            --location="${ZONE%-*}" --uniform-bucket-level-access \
            --enable-hierarchical-namespace --soft-delete-duration=0
    fi
    run gcloud storage buckets add-iam-policy-binding "gs://$BUCKET" \
        --member="serviceAccount:$ACCOUNT" --role=roles/storage.objectUser
}

upload() {
    if [ ! -f "$CORPUS/corpus.json" ]; then
        $DRY_RUN || fail "CORPUS is $CORPUS, which holds no corpus.json;" \
            "make one: python -m data_pipeline.prepare"
        echo "# would be refused: CORPUS is $CORPUS, which holds no corpus.json"
    fi
    run mkdir -p "$ROOT/build"
    run git -C "$ROOT" archive --format=tar.gz --output="$ROOT/build/bert_jax.tar.gz" HEAD
    run gcloud storage cp "$ROOT/build/bert_jax.tar.gz" "gs://$BUCKET/bert_jax.tar.gz"
    run gcloud storage rsync "$CORPUS" "gs://$BUCKET/corpora/$CORPUS_NAME" --recursive
    if ! $DRY_RUN && [ -n "$(git -C "$ROOT" status --porcelain)" ]; then
        echo "note: uncommitted changes were not uploaded"
    fi
}

create() {
    local options=()
    if [ -n "${SPOT-}" ]; then options+=(--spot); fi
    if [ -n "${VALID_UNTIL-}" ]; then options+=(--valid-until-duration="$VALID_UNTIL"); fi
    queued_resources create "$NAME" --node-id="$NAME" --accelerator-type="$ACCELERATOR_TYPE" \
        --runtime-version="$RUNTIME_VERSION" --service-account="$ACCOUNT" \
        --scopes=https://www.googleapis.com/auth/cloud-platform ${options[@]+"${options[@]}"}
}

wait_for_slice() {
    local state last=""
    if $DRY_RUN; then
        echo "# every $POLL_SECONDS seconds until it prints ACTIVE:"
        slice_state
        return
    fi
    while true; do
        state=$(slice_state)
        [ "$state" = "$last" ] || say "$NAME: ${state:-not there}"
        last=$state
        case $state in
            ACTIVE) return ;;
            "") fail "there is no slice $NAME in $ZONE; request it: scripts/tpu.sh create" ;;
            FAILED | SUSPENDING | SUSPENDED | DELETING)
                queued_resources describe "$NAME" --format='yaml(state)' || true
                fail "$NAME is $state; scripts/tpu.sh delete, then create again"
                ;;
        esac
        sleep "$POLL_SECONDS"
    done
}

install() {
    on_workers all "rm -rf bert_jax && mkdir bert_jax && gcloud storage cat $(quoted \
        "gs://$BUCKET/bert_jax.tar.gz") | tar -xz -C bert_jax && $WORKER install $(quoted "$BUCKET")"
}

copy_corpus() { on_workers all "$WORKER copy-corpus $(quoted "$BUCKET" "$CORPUS_NAME")"; }

launch() { # RECIPE [ARGUMENT...]
    # shellcheck disable=SC2086 # several words
    [ "$HOSTS" -eq 1 ] || set -- "$@" $MULTI_HOST_OPTIONS
    on_workers all "$WORKER start $(quoted "$BUCKET" "$RUN" "$CORPUS_NAME" "$@")"
}

status() {
    local state=ACTIVE
    if $DRY_RUN; then
        slice_state
    else
        state=$(slice_state)
        echo "$NAME: ${state:-not there}"
    fi
    if [ "$state" = ACTIVE ]; then
        worker_states || true
        on_workers 0 "tail -n 2 bucket/runs/$(quoted "$RUN")/metrics.jsonl" || true
    fi
}

watch() { on_workers 0 "tail -n 20 -F train/log"; }

tensorboard() {
    # -t: TensorBoard ends with the connection.
    run gcloud compute tpus tpu-vm ssh "$NAME" --project="$PROJECT" --zone="$ZONE" --worker=0 \
        --ssh-flag=-t --ssh-flag="-L 6006:localhost:6006" \
        --command=".local/bin/uv tool run --python 3.12 tensorboard --port 6006 --logdir bucket/runs/$(quoted "$RUN")/tensorboard"
}

stop() { on_workers all "$WORKER stop"; }

save_logs() { on_workers all "$WORKER save-log $(quoted "$BUCKET" "$RUN")"; }

collect() {
    if $DRY_RUN || [ "$(slice_state)" = ACTIVE ]; then
        save_logs || echo "note: not every worker's log could be saved" >&2
    fi
    run mkdir -p "runs/$RUN/logs"
    run gcloud storage rsync "gs://$BUCKET/runs/$RUN" "runs/$RUN" --recursive
    if $DRY_RUN || exists gcloud storage ls "gs://$BUCKET/logs/$RUN/"; then
        run gcloud storage rsync "gs://$BUCKET/logs/$RUN" "runs/$RUN/logs" --recursive
    fi
}

delete_slice() { queued_resources delete "$NAME" --force --quiet; }

delete() {
    if $DRY_RUN || [ -n "$(slice_state)" ]; then
        delete_slice
    fi
    $DRY_RUN || echo "Left in $ZONE, and billed (other zones are not listed):"
    queued_resources list
    run gcloud compute tpus tpu-vm list --project="$PROJECT" --zone="$ZONE"
}

delete_all() {
    local answer
    if ! $DRY_RUN; then
        read -r -p "Type the bucket's name to delete it with every run and corpus in it: " answer
        [ "$answer" = "$BUCKET" ] || fail "'$answer' is not $BUCKET; nothing was deleted"
    fi
    delete
    run gcloud storage rm "gs://$BUCKET" --recursive
    run gcloud iam service-accounts delete "$ACCOUNT" --project="$PROJECT" --quiet
}

needs() { # VARIABLE...
    local name missing=""
    for name in "$@"; do
        [ -n "${!name-}" ] || missing="$missing $name"
    done
    [ -z "$missing" ] || fail "not set:$missing; see scripts/tpu.sh help"
}

check_run() { # COMMAND RECIPE [OPTION...]: before anything costs money
    local command=$1 argument is_known=true
    shift
    for argument in "$@"; do
        argument=${argument%%=*} argument=${argument//_/-}
        case $argument in
            --dry-run | --compile-for | --learning-rates | --help | -h)
                fail "with $argument the run would not train; to see what $command would do, put" \
                    "--dry-run before the recipe: scripts/tpu.sh $command --dry-run $1; to see the" \
                    "run, use this machine: python run_pretrain.py $1 $argument"
                ;;
            --init-from) is_known=false ;; # a folder on the workers, which this machine cannot see
        esac
    done
    $is_known || return 0
    if command -v "$PYTHON" >/dev/null; then
        JAX_PLATFORMS=cpu "$PYTHON" "$ROOT/run_pretrain.py" "$@" --learning-rates >/dev/null || exit 2
    else
        echo "note: the options are not checked first, as there is no $PYTHON; try make install" >&2
    fi
}

settings() { # COMMAND
    local name type topology hosts image known=""
    needs PROJECT ZONE BUCKET ACCELERATOR_TYPE
    case $1 in upload | copy-corpus | launch | supervise) needs CORPUS ;; esac
    HOSTS=""
    while read -r name type topology hosts image; do
        [ -n "$name" ] || continue
        known="$known, $name"
        case $ACCELERATOR_TYPE in
            "$name" | "$type" | "$topology")
                ACCELERATOR_TYPE=$type
                HOSTS=$hosts
                RUNTIME_VERSION=${RUNTIME_VERSION:-$image}
                ;;
        esac
    done <<<"$SLICES"
    [ -n "$HOSTS" ] || fail "ACCELERATOR_TYPE is $ACCELERATOR_TYPE; known are ${known#, }" \
        "(to add one, add a line to SLICES in scripts/tpu.sh)"
    NAME=${NAME:-bert-jax}
    RUN=${RUN:-$NAME}
    BUCKET=${BUCKET#gs://}
    CORPUS_NAME=$(basename "${CORPUS:-none}")
    ACCOUNT=bert-jax-tpu@$PROJECT.iam.gserviceaccount.com
    MAX_RESTARTS=${MAX_RESTARTS:-20}
    POLL_SECONDS=${POLL_SECONDS:-60}
    PYTHON=${PYTHON:-$ROOT/.venv/bin/python}
}

DRY_RUN=false
if [ "${1-}" = --dry-run ]; then
    DRY_RUN=true
    shift
fi
command=${1-help}
shift $(($# > 0))
if [ "${1-}" = --dry-run ]; then
    DRY_RUN=true
    shift
fi
case $command in
    help | -h | --help)
        sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
        exit
        ;;
    launch | supervise)
        [ $# -gt 0 ] || fail "$command needs a recipe: scripts/tpu.sh $command base"
        ;;
    setup | upload | create | wait | install | copy-corpus | status | watch | tensorboard | stop | \
        collect | delete | delete-all)
        [ $# -eq 0 ] || fail "$command takes no arguments, not '$*'"
        ;;
    *) fail "unknown command '$command'; scripts/tpu.sh help lists them" ;;
esac
settings "$command"
case $command in launch | supervise) check_run "$command" "$@" ;; esac
$DRY_RUN || command -v gcloud >/dev/null ||
    fail "gcloud is not installed; see https://cloud.google.com/sdk/docs/install"
# shellcheck source=scripts/tpu_supervise.sh
. "$ROOT/scripts/tpu_supervise.sh"
case $command in
    wait) wait_for_slice ;;
    *) "${command//-/_}" "$@" ;;
esac
