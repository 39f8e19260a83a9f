# Prints the headers and the body of the request that started its fleet, in the way of the hosted
# system's tutorial on webhook parameters.
import json
import os


def load(variable):
    path = os.environ.get(variable)
    if not path:
        return None
    with open(path) as file:
        return json.load(file)


headers = load("SHIPYARD_WEBHOOK_HEADERS_FILE")
body = load("SHIPYARD_WEBHOOK_BODY_FILE")

if headers:
    for key, value in headers.items():
        print(f"The header key is {key} and the header value is {value}")

if body:
    for key, value in body.items():
        print(f"The body key is {key} and the body value is {value}")
