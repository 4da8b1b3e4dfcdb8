# shellcheck shell=bash
# `scripts/tpu.sh supervise`, sourced by that script: keeps a run going on a preemptible slice.

# How many checks in a row may find a problem that can go away by itself: gcloud does not answer, or
# only some of the workers train.
GCLOUD_PATIENCE=30
WORKER_PATIENCE=5

is_finished() { gcloud storage ls "gs://$BUCKET/runs/$RUN/summary.json" >/dev/null 2>&1; }

show_supervision() { # RECIPE [ARGUMENT...]: the commands of --dry-run
    echo "# every $POLL_SECONDS seconds:"
    slice_state
    echo "# where there is none:"
    create
    echo "# where it is SUSPENDED (preempted) or FAILED, and then create again:"
    delete_slice
    echo "# where it is ACTIVE:"
    worker_states
    echo "# where no worker trains:"
    run gcloud storage ls "gs://$BUCKET/runs/$RUN/summary.json"
    echo "# where that is not there, so that the run is not complete:"
    install
    copy_corpus
    launch "$@"
    echo "# at the end:"
    save_logs
    delete_slice
}

give_back() {
    save_logs || say "not every worker's log could be saved"
    delete_slice || fail "$NAME could not be deleted and is billed; try: scripts/tpu.sh delete"
    say "$NAME is deleted; the run is in gs://$BUCKET/runs/$RUN: scripts/tpu.sh collect"
}

restart() { # REASON: counts the restarts and gives up after too many
    restarts=$((restarts + 1))
    if [ "$restarts" -gt "$MAX_RESTARTS" ]; then
        say "$1"
        give_back
        fail "gave up after $MAX_RESTARTS restarts; raise MAX_RESTARTS to continue"
    fi
    say "$1: restart $restarts of at most $MAX_RESTARTS"
}

fault() { # WHAT: a step failed that may succeed the next time
    faults=$((faults + 1))
    [ "$faults" -lt "$WORKER_PATIENCE" ] ||
        fail "$1, $faults times in a row; $NAME may be there and billed: scripts/tpu.sh status"
    say "$1; trying again"
}

replace() { # REASON: the next check finds no slice and requests one
    restart "$1"
    if delete_slice; then
        faults=0 seen=false
    else
        fault "$NAME could not be deleted"
    fi
}

start_again() { # RECIPE [ARGUMENT...]: when all workers answer
    if ! $is_new; then
        sed '/: running$/d' <<<"$workers"
        on_workers 0 "tail -n 5 train/log" || true
        # Exit code 2 is a mistake in the options: starting again would not help.
        [ "$(grep -c ': ended 2$' <<<"$workers" || true)" -lt "$HOSTS" ] ||
            fail "the run refuses to start, see above; $NAME is there and billed:" \
                "supervise again without the mistake, or scripts/tpu.sh delete"
        # A run that has trained was stopped, perhaps by a reboot, and can resume.
        $trained || [ "$(grep -c ': ended 0$' <<<"$workers" || true)" -lt "$HOSTS" ] ||
            fail "the run ended at once and is not complete, see above; $NAME is there and billed:" \
                "scripts/tpu.sh delete, or supervise again"
        restart "$running of $HOSTS workers train"
    fi
    uneven=0
    if install && copy_corpus && launch "$@"; then
        faults=0 is_new=false trained=false
    else
        fault "not every worker could be started"
    fi
}

# Checks the slice and takes one step, again and again. What it remembers only serves to give up in
# the end, so it can be stopped and started at any time.
supervise() { # RECIPE [ARGUMENT...]
    local state workers answered running silent=0 uneven=0 seen=false is_new=true trained=false
    local last=""
    restarts=0 faults=0
    if $DRY_RUN; then
        show_supervision "$@"
        return
    fi
    trap 'say "stopped; $NAME is left as it is, and billed: scripts/tpu.sh status"; exit 130' INT TERM
    while true; do
        if ! state=$(slice_state); then
            silent=$((silent + 1))
            [ "$silent" -lt "$GCLOUD_PATIENCE" ] ||
                fail "gcloud failed $silent times in a row; $NAME may be there and billed"
            sleep "$POLL_SECONDS"
            continue
        fi
        silent=0
        [ "$state" = "$last" ] || say "$NAME: ${state:-not there}"
        last=$state
        case $state in
            "")
                if is_finished; then
                    say "gs://$BUCKET/runs/$RUN is complete"
                    return
                fi
                # Somebody deleted it to stop the bill.
                ! $seen || fail "$NAME was deleted by somebody else; it is not requested again"
                if create; then
                    faults=0 uneven=0 seen=true is_new=true
                else
                    fault "$NAME could not be requested"
                fi
                ;;
            SUSPENDED | FAILED)
                queued_resources describe "$NAME" --format='yaml(state)' || true
                if is_finished; then break; fi
                replace "$NAME is $state"
                ;;
            ACTIVE)
                seen=true
                workers=$(worker_states 2>/dev/null) || true
                answered=$(grep -c '^worker ' <<<"$workers" || true)
                running=$(grep -c '^worker .*: running$' <<<"$workers" || true)
                if [ "$running" -eq "$HOSTS" ]; then
                    uneven=0 faults=0 is_new=false trained=true
                elif { [ "$answered" -lt "$HOSTS" ] || [ "$running" -gt 0 ]; } &&
                    [ "$uneven" -lt "$WORKER_PATIENCE" ]; then
                    # The run is ending, the workers stop because one died, or it is a preemption.
                    uneven=$((uneven + 1))
                elif is_finished; then
                    break
                elif [ "$answered" -lt "$HOSTS" ]; then
                    replace "only $answered of $HOSTS workers answer"
                else
                    start_again "$@"
                fi
                ;;
        esac
        sleep "$POLL_SECONDS"
    done
    say "the run is complete"
    give_back
}
