# ruff: noqa: INP001 # Ansible finds it by its folder
"""Filter ``rollout_reasons``: why pods do not run, in the cluster's own words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


def _said(state: Mapping[str, Any]) -> str:
    words = [str(state[key]).strip() for key in ("reason", "message") if state.get(key)]
    return ": ".join(words)


def _containers(status: Mapping[str, Any]) -> Iterator[str]:
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        state = container.get("state") or {}
        last = (container.get("lastState") or {}).get("terminated") or {}
        ended = state.get("terminated") or {}
        if container.get("ready") or ended.get("exitCode") == 0:
            continue
        name = container["name"]
        if "waiting" in state:
            yield f"container {name} waits, {_said(state['waiting']) or 'the cluster does not say for what'}"
        elif ended:
            yield f"container {name} ended with {ended.get('exitCode')}, {_said(ended)}"
        else:
            yield f"container {name} runs and is not ready"
        if last:
            yield f"its last run ended with {last.get('exitCode')}, {_said(last)}"


def reasons(pods: Iterable[Mapping[str, Any]]) -> list[str]:
    """Why pods do not run, one line for each that does not.

    Args:
        pods: objects of the kind Pod.

    Returns:
        nothing when all of them are ready or have ended well.
    """
    found = []
    for pod in pods:
        status = pod.get("status") or {}
        conditions = {condition["type"]: condition for condition in status.get("conditions") or []}
        if status.get("phase") == "Succeeded" or conditions.get("Ready", {}).get("status") == "True":
            continue
        scheduled = conditions.get("PodScheduled", {})
        if scheduled.get("status") == "False":
            why = [_said(scheduled)]
        else:
            why = list(_containers(status)) or [_said(status) or f"phase {status.get('phase')}"]
        found.append(f"pod {pod['metadata']['name']}: {'; '.join(why)}")
    return found


class FilterModule:
    """The filters of this file, as Ansible finds them."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name to function."""
        return {"rollout_reasons": reasons}
