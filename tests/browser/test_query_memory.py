"""The memory of queries against the model it has: search-insights' own, in Node, with the same sequences of events."""

from __future__ import annotations

import json
import pathlib
import random
import subprocess
from typing import Any

from waiting import PATIENCE

from algolia_usertoken import HitReference, QueryMemory, identity_scope

from .conftest import program

TOKEN = "anonymous-5c3f8f2e"
# Reads sequences of steps, and writes for each event the query of each of its objects, as it went out.
MODEL = """
const kept = new Map();
Object.defineProperty(globalThis, "localStorage", {value: {
  getItem: (key) => kept.get(key) ?? null,
  setItem: (key, value) => kept.set(key, String(value)),
  removeItem: (key) => kept.delete(key),
}});
const { createInsightsClient } = require("search-insights");
let sent;
const aa = createInsightsClient(async (url, data) => { sent = data.events; return true; });
(async () => {
  const sequences = JSON.parse(require("fs").readFileSync(0, "utf8"));
  const found = [];
  for (const steps of sequences) {
    kept.clear();
    aa("init", {appId: "app", apiKey: "key"});
    aa("setUserToken", "anonymous-5c3f8f2e");
    const queries = [];
    for (const [method, index, objectIDs, queryID] of steps) {
      const event = {eventName: "It happened", index, objectIDs};
      if (queryID) event.queryID = queryID;
      if (method.startsWith("clicked")) event.positions = objectIDs.map((_, number) => number + 1);
      await aa(method, event, {inferQueryID: true});
      queries.push(queryID ? null : objectIDs.map((_, number) => sent[0].objectData?.[number]?.queryID ?? null));
    }
    found.push(queries);
  }
  console.log(JSON.stringify(found));
})();
"""
AFTER_SEARCH = ["clickedObjectIDsAfterSearch", "addedToCartObjectIDsAfterSearch"]
INFERRED = ["convertedObjectIDs", "addedToCartObjectIDs", "purchasedObjectIDs"]
Step = tuple[str, str, list[str], str | None]


def sequence(luck: random.Random) -> list[Step]:
    steps: list[Step] = []
    for _ in range(luck.randrange(1, 40)):
        objects = luck.sample([f"p-{number:02}" for number in range(8)], luck.randrange(1, 4))
        after = luck.random() < 0.5
        method = luck.choice(AFTER_SEARCH if after else INFERRED)
        query_id = luck.randbytes(16).hex() if after else None
        steps.append((method, luck.choice(["products", "articles"]), objects, query_id))
    return steps


def remembered(steps: list[Step]) -> list[Any]:
    """What our memory knows of each event that names no query."""
    found: list[Any] = []
    session: dict[str, Any] = {}
    for method, index, objects, query_id in steps:
        memory = QueryMemory(json.loads(json.dumps(session)))  # as a session comes with the next request
        if query_id is not None:
            memory.remember(
                HitReference(query_id, index, each, number, user_token=TOKEN)
                for number, each in enumerate(objects, start=1)
            )
            found.append(None)
        else:
            found.append([each.query_id for each in memory.recall(index, objects)])
        if method.startswith("purchased"):
            memory.forget(index, objects)
        session = memory._mapping  # type: ignore[assignment]
    return found


def test_query_memory_remembers_what_search_insights_remembers(npm: pathlib.Path) -> None:
    luck = random.Random(7)
    sequences = [sequence(luck) for _ in range(500)]
    done = subprocess.run(
        [program("node"), "-e", MODEL],
        input=json.dumps(sequences),
        env={"NODE_PATH": str(npm)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, "")

    with identity_scope(TOKEN):
        ours = [remembered(steps) for steps in sequences]

    assert ours == json.loads(done.stdout)
    known = [each for queries in ours for objects in queries for each in objects or ()]
    assert None in known
    assert len([each for each in known if each]) > 1_000
