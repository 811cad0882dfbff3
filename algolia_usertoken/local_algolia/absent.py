"""The parts of Algolia that the stand-in does not have: its answer to a request for one of them says so."""

from __future__ import annotations

# The beginning of a path, and what Algolia has there. The first one that fits is used.
_ABSENT = {
    "/1/clusters": "multi-cluster management",
    "/1/dictionaries": "dictionaries",
    "/1/security": "allowed sources",
    "/1/push": "the Ingestion API",
    "/1/authentications": "the Ingestion API",
    "/1/destinations": "the Ingestion API",
    "/1/runs": "the Ingestion API",
    "/1/sources": "the Ingestion API",
    "/1/tasks": "the Ingestion API",
    "/1/transformations": "the Ingestion API",
    "/2/tasks": "the Ingestion API",
    "/2/abtests": "A/B tests",
    "/3/abtests": "A/B tests",
    "/2/countries": "analytics by country",
    "/2/filters": "analytics by filter",
    "/2/hits": "analytics by hit",
    "/3/patterns": "analytics of patterns",
    "/2/profiles": "Advanced Personalization",
    "/2/users": "Advanced Personalization",
    "/2/config": "Advanced Personalization",
    "/1/configs": "query suggestions",
    "/1/logs": "logs of query suggestions",
    "/1/crawlers": "the Crawler API",
    "/1/agents": "Agent Studio",
    "/agent-studio": "Agent Studio",
    "/1/status": "the Monitoring API",
    "/1/incidents": "the Monitoring API",
    "/1/infrastructure": "the Monitoring API",
    "/1/inventory": "the Monitoring API",
    "/1/latency": "the Monitoring API",
    "/1/indexing": "the Monitoring API",
    "/1/reachability": "the Monitoring API",
}


def answer_to(method: str, path: str) -> str:
    """The message of a 404 for a path: LocalAlgolia does not have the path, or Algolia does not have it either."""
    for beginning, what in _ABSENT.items():
        if path == beginning or path.startswith(f"{beginning}/"):
            return f"LocalAlgolia does not have {what}: {method} {path[:200]}"
    if path.startswith("/1/indexes/") and "/recommend/" in path:
        return f"LocalAlgolia does not have rules for recommendations: {method} {path[:200]}"
    return f"Path not supported by this API: {method} {path[:200]}"
