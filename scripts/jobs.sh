# shellcheck shell=bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Jobs beside each other, to be sourced. When the script that sources this is told to end, they
# and all that they have started are told so too: each has a process group of its own. A plain
# background job ignores an interrupt, and has its output deleted while it goes on.

# start COMMAND...
# Leaves the job's process id in `started`, for `wait`.
start() {
    set -m # a group of its own, and no signal ignored
    "$@" </dev/null &
    set +m
    # shellcheck disable=SC2034 # for who sources this
    started=$!
}

# end_jobs SIGNAL
end_jobs() {
    local job
    trap - HUP INT TERM # a second one ends this script at once
    for job in $(jobs -pr); do
        kill -s "$1" -- "-$job" 2>/dev/null # it may have ended by itself meanwhile
    done
    wait
    exit 1
}

trap 'end_jobs HUP' HUP
trap 'end_jobs INT' INT
trap 'end_jobs TERM' TERM
