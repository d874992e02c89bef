"""What an app does with sentry-sdk. Prints the ids of the events it sent."""

import json
import os
import sys

import sentry_sdk

[_, name, *algorithm] = sys.argv
options = {"_experiments": {"transport_compression_algo": algorithm[0]}} if algorithm else {}
sentry_sdk.init(dsn=os.environ["SENTRY_DSN"], release="shop@1.2.3", environment="staging", **options)
sentry_sdk.set_user({"id": "7"})
sentry_sdk.add_breadcrumb(category="cart", message="added a teapot")


def load_user(user):
    secret_token = "hunter2"
    raise ValueError(f"no user {user} in {name}")


def save_user(user):
    raise ValueError(f"no user {user} in {name}")


def capture(work):
    try:
        work()
    except BaseException as error:
        return sentry_sdk.capture_exception(error)


def both():
    raise ExceptionGroup(f"both in {name}", [KeyError("first"), OSError("second")])


ids = [capture(lambda: load_user(user)) for user in (17, 18)]
ids.append(capture(lambda: save_user(17)))
if sys.version_info >= (3, 11):
    ids.append(capture(both))
ids.append(sentry_sdk.capture_message(f"a message in {name}"))
sentry_sdk.flush(timeout=20)
print(json.dumps(ids))
