"""The page at /docs: the OpenAPI document for people, without scripts and without anything from elsewhere."""

from __future__ import annotations

from html import escape
from typing import Any, Final

__all__ = ["docs_page"]

_STYLE: Final = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1f2430;background:#fff}
h2{border-top:1px solid #d5d9e0;padding-top:1rem;margin-top:2rem}
code,pre{font:14px/1.45 ui-monospace,monospace;background:#f2f4f7;border-radius:4px}
code{padding:.1em .3em}pre{padding:.8rem;overflow-x:auto}
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.35rem .6rem;
border-bottom:1px solid #e3e6eb}.method{font-weight:700;text-transform:uppercase}
@media(prefers-color-scheme:dark){body{color:#e4e7ec;background:#15181e}code,pre{background:#232833}
h2,td,th{border-color:#353c49}}
"""

_CURL: Final = """curl -u USER:PASSWORD -H 'Content-Type: application/json' \\
     -d '{"input": [1, 2, 3, 4]}' http://GATEWAY/runWorkflow/compute_avg_distributed"""


def docs_page(document: dict[str, Any]) -> str:
    """Return the page for an OpenAPI document."""
    info = document["info"]
    parts = [
        f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{escape(info['title'])}</title>",
        '<meta name=viewport content="width=device-width,initial-scale=1">',
        f"<style>{_STYLE}</style></head><body><h1>{escape(info['title'])}</h1>",
        f"<p>{escape(info['description'])}</p><pre>{escape(_CURL)}</pre>",
        "<p>The same for programs: <a href=openapi.json>openapi.json</a>.</p>",
    ]
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if isinstance(operation, dict) and "responses" in operation:
                parts += _operation(document, path, method, operation)
    parts.append("</body></html>")
    return "".join(parts)


def _operation(document: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> list[str]:
    parts = [
        f"<h2><span class=method>{escape(method)}</span> <code>{escape(path)}</code></h2>",
        f"<p>{escape(operation['summary'])}. {escape(operation.get('description', ''))}</p>",
    ]
    if parameters := [_resolved(document, parameter) for parameter in operation.get("parameters", ())]:
        parts.append("<table><tr><th>Parameter<th>In<th>Meaning</tr>")
        parts += [
            f"<tr><td><code>{escape(item['name'])}</code><td>{escape(item['in'])}<td>{escape(item['description'])}</tr>"
            for item in parameters
        ]
        parts.append("</table>")
    parts.append("<table><tr><th>Status<th>When</tr>")
    for status, response in operation["responses"].items():
        text = _resolved(document, response)["description"]
        parts.append(f"<tr><td>{escape(status)}<td>{escape(text)}</tr>")
    parts.append("</table>")
    return parts


def _resolved(document: dict[str, Any], item: dict[str, Any]) -> dict[str, Any]:
    reference = item.get("$ref")
    if reference is None:
        return item
    target: Any = document
    for name in reference.removeprefix("#/").split("/"):
        target = target[name]
    return dict(target)
