"""A stand-in for a cluster's API, for charts that look at what is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from authproxy.demo.stand_ins.loopback import LoopbackServer, Request, Response

#: Where each kind is, and its group's version.
PLACES = {"Deployment": ("apps/v1", "deployments")}
PLACES["NetworkPolicy"] = ("networking.k8s.io/v1", "networkpolicies")


class StandInCluster:
    """Knows the objects in `objects`, by request target, and shows them to whoever asks."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.server = LoopbackServer(self._answer)

    def put(self, document: dict[str, Any]) -> None:
        """Add an object."""
        version, plural = PLACES[document["kind"]]
        about = document["metadata"]
        target = f"/apis/{version}/namespaces/{about['namespace']}/{plural}/{about['name']}"
        self.objects[target] = document

    def configuration(self, folder: Path) -> Path:
        """Write a KUBECONFIG that leads here; return where it is."""
        path = folder / "kubeconfig"
        configuration = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
            "clusters": [{"name": "here", "cluster": {"server": self.server.url}}],
            "users": [{"name": "me", "user": {}}],
        }
        path.write_text(json.dumps(configuration))
        return path

    def _answer(self, request: Request) -> Response:
        content = self._discovery(request.path) or self.objects.get(request.path)
        if content is None:
            status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404}
            return Response.of_json(404, {**status, "reason": "NotFound"})
        return Response.of_json(200, content)

    def _discovery(self, path: str) -> dict[str, Any] | None:
        if path == "/version":
            return {"major": "1", "minor": "33", "gitVersion": "v1.33.0"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/api/v1":
            return {"kind": "APIResourceList", "groupVersion": "v1", "resources": []}
        if path == "/apis":
            return {
                "kind": "APIGroupList",
                "apiVersion": "v1",
                "groups": [_group(version) for version, _ in PLACES.values()],
            }
        for kind, (version, plural) in PLACES.items():
            if path == f"/apis/{version}":
                resource = {"name": plural, "namespaced": True, "kind": kind, "verbs": ["get"]}
                return {
                    "kind": "APIResourceList",
                    "groupVersion": version,
                    "resources": [resource],
                }
        return None


def _group(group_version: str) -> dict[str, Any]:
    group, _, version = group_version.partition("/")
    about = {"groupVersion": group_version, "version": version}
    return {"name": group, "versions": [about], "preferredVersion": about}
