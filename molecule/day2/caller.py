# ruff: noqa: INP001 # a program of the scenario
"""Calls a workflow without a pause, as a client does that wants its answer, until a file is gone.

A call that is not answered, or is told to come again, is made again with its Idempotency-Key. What was answered in the
end is printed, and anything but the workflow's output makes the program fail.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import uuid
from http import HTTPStatus
from pathlib import Path

import httpx

_PATIENCE = 900.0
_LATER = {HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}


def call(address: str, host: str) -> tuple[str, float, list[str]]:
    """Call until there is an answer.

    Returns:
        the answer, after how many seconds, and why the call was made again each time.
    """
    began = time.monotonic()
    headers = {"host": host, "idempotency-key": str(uuid.uuid4())}
    again: list[str] = []
    while True:
        try:
            answer = httpx.post(
                f"http://{address}/runWorkflow/compute_avg_distributed",
                auth=("admin", "admin"),
                headers=headers,
                json={"input": [1, 2, 3, 4]},
                timeout=httpx.Timeout(5, read=300),
            )
            said = f"{answer.status_code} {answer.text}"
            # A proxy has no such page where the gateway has no pod that it knows of yet.
            ours = answer.headers.get("content-type", "").startswith("application/")
            later = answer.status_code in _LATER or not ours
        except httpx.TransportError as error:
            said, later = repr(error), True
        took = time.monotonic() - began
        if not later or took > _PATIENCE:
            return said, took, again
        again.append(said[:300])
        time.sleep(1)


def main() -> None:
    """Call, and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True, help="the ingress's address")
    parser.add_argument("--host", required=True, help="the gateway's name there")
    parser.add_argument("--while", dest="sign", required=True, type=Path, help="a file: once it is gone, calls end")
    options = parser.parse_args()
    calls = []
    while options.sign.exists():
        calls.append(call(options.address, options.host))
        time.sleep(0.5)
    wrong = [said for said, _, _ in calls if said != '200 {"output":2.5}']
    seconds = sorted(took for _, took, _ in calls)
    report = {
        "calls": len(calls),
        "made_again": sum(bool(again) for _, _, again in calls),
        "median_s": round(statistics.median(seconds), 2) if seconds else None,
        "longest_s": [round(took, 1) for took in seconds[-5:]],
        "why_again": sorted({said for _, _, again in calls for said in again}),
        "wrong": wrong,
    }
    print(json.dumps(report, indent=1))  # noqa: T201 # its purpose
    sys.exit(bool(wrong) or not calls)


if __name__ == "__main__":
    main()
