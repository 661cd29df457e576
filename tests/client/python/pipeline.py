"""Registers a stack and runs a pipeline of two steps on it, of which one reads a secret.

Prints one line of JSON: what the client then sees of the run.
"""

import json
import sys

from zenml import pipeline, step
from zenml.client import Client
from zenml.enums import StackComponentType

SECRET, KEY = sys.argv[1:]


@step(enable_cache=False)
def length(secret: str, key: str) -> int:
    return len(Client().get_secret(secret).secret_values[key])


@step(enable_cache=False)
def twice(number: int) -> int:
    return 2 * number


@pipeline
def through_the_door(secret: str, key: str) -> None:
    twice(length(secret, key))


if __name__ == "__main__":
    client = Client()
    kinds = {"artifact_store": "local", "orchestrator": "local"}
    for kind, flavor in kinds.items():
        client.create_stack_component(
            name="mine",
            flavor=flavor,
            component_type=StackComponentType(kind),
            configuration={},
        )
    components = {StackComponentType(kind): "mine" for kind in kinds}
    stack = client.create_stack(name="mine", components=components)
    client.activate_stack("mine")
    through_the_door(SECRET, KEY)
    me = client.active_user
    runs = client.list_pipeline_runs(user=me.id)
    run = runs.items[0]
    print(
        json.dumps(
            {
                "me": str(me.id),
                "stack of": str(stack.user_id),
                "run of": str(run.user_id),
                "runs": runs.total,
                "status": str(run.status),
                "output": run.steps["twice"].output.load(),
            }
        )
    )
