"""What a step does with secrets: looks them up, and reads attributes that refer to them.

Usage: step.py NAME KEY, with the server and a key of it in the environment. Prints one line of JSON.
"""

import json
import sys

from zenml.client import Client
from zenml.stack.stack_component import StackComponentConfig
from zenml.utils.secret_utils import SecretField

NAME, KEY = sys.argv[1:]


class TrackerConfig(StackComponentConfig):
    """A component with an attribute that is a secret, and one that is not."""

    password: str = SecretField()
    url: str


client = Client()
told = {"found": client.get_secret(NAME).secret_values}
config = TrackerConfig(password="{{%s.%s}}" % (NAME, KEY), url="{{ %s.%s }}" % (NAME, KEY))
told["resolved"] = [config.password, config.url]
told["kept"] = config.model_dump()["password"]
for what, text in [("secret", "{{nosuch.%s}}" % KEY), ("key", "{{%s.nosuch}}" % NAME)]:
    try:
        TrackerConfig(password=text, url="x").password
    except KeyError as error:
        told["no " + what] = str(error)

# The client's own calls, bulk ones included.
made = client.create_secret(name="from-python", values={"a": "1", "b": "2"}, private=True)
told["private"] = made.private
changed = client.update_secret(
    name_id_or_prefix="from-python", add_or_update_values={"c": "3"}, remove_values=["a"]
)
told["changed"] = changed.secret_values
told["listed"] = sorted(s.name for s in client.list_secrets(private=True).items)
told["by owner"] = client.list_secrets(user=client.active_user.id).total
told["by status"] = client.get_secret_by_name_and_private_status("from-python", private=True).id == str(
    made.id
) or client.get_secret_by_name_and_private_status("from-python", private=True).id == made.id
client.delete_secret("from-python")
try:
    client.create_secret(name=NAME, values={})
except Exception as error:
    told["taken"] = type(error).__name__
print(json.dumps(told))
