#!/bin/sh
# Run the example workflow on this machine, from an empty folder to its result: demo.sh
#
# What an earlier demo left is removed first. KEEP=1 leaves everything up. DEMO_STATE names another state folder, DEMO_WORKFLOWS another folder of DAGs.
set -eu
cd "$(dirname "$0")/.."
bin=$PWD/.venv/bin
state=${DEMO_STATE:-$PWD/build/demo}
workflows=${DEMO_WORKFLOWS:-workflows}
log=build/demo.log
mkdir -p build

stop() {
    status=$?
    trap - EXIT INT TERM
    "$bin/airflow-knative" local down --state "$state" >>"$log" 2>&1 || true
    if [ "$status" -ne 0 ]; then
        echo "The demo failed; what went on is in $log and $state/logs." >&2
    fi
    exit "$status"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

: >"$log"
"$bin/airflow-knative" local down --state "$state" --purge --yes >>"$log" 2>&1 || true

# The usual ports, or any free ones if one of them is taken.
ports=$("$bin/python" - <<'PYTHON'
import socket

try:
    for port in (8080, 8085, 8086):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
except OSError:
    print("--port-base 0")
PYTHON
)
# shellcheck disable=SC2086 -- two words or none
"$bin/airflow-knative" local up --workflows "$workflows" --state "$state" $ports
url=$("$bin/python" -c 'import json, sys; print("http://127.0.0.1:%d" % json.load(open(sys.argv[1]))["gateway_port"])' \
    "$state/settings.json")

call() {
    if command -v curl >/dev/null 2>&1; then
        curl -sS -u admin:admin -H 'Content-Type: application/json' --data '{"input": [1, 2, 3, 4]}' \
            "$url/runWorkflow/compute_avg_distributed"
    else
        "$bin/airflow-knative" run compute_avg_distributed --input '[1, 2, 3, 4]' --state "$state" --json
    fi
}
answer=$(call)
echo
if [ -n "${KEEP:-}" ]; then
    "$bin/airflow-knative" timeline compute_avg_distributed --state "$state" --svg build/timeline.svg
    echo
    echo "curl -u admin:admin -H 'Content-Type: application/json' --data '{\"input\": [1, 2, 3, 4]}'" \
        "$url/runWorkflow/compute_avg_distributed"
    echo "$answer"
    trap - EXIT
    echo
    echo "It stays up. Take it down with: $bin/airflow-knative local down --state $state"
else
    echo "curl -u admin:admin -H 'Content-Type: application/json' --data '{\"input\": [1, 2, 3, 4]}'" \
        "$url/runWorkflow/compute_avg_distributed"
    echo "$answer"
    echo
    "$bin/airflow-knative" timeline compute_avg_distributed --state "$state" --svg build/timeline.svg
    echo
    echo "Everything is being stopped; make demo KEEP=1 leaves it up."
fi
case $answer in
*'"output":2.5'*) ;;
*) exit 1 ;;
esac
