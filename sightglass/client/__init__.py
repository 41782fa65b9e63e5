"""How does a program ask a running service? With `Client`, and `AsyncClient` with the same methods to await.

    with Client("http://localhost:8000") as service:
        print(service.predict("cat.jpg").prediction)

It needs httpx2 and nothing else of what Sightglass needs.
"""

from sightglass.client.clients import AsyncClient, Client
from sightglass.client.errors import ClientError, ServiceError, UnexpectedAnswer, Unreachable, UnreadableFile
from sightglass.client.responses import Box, ClassProbability, Explanation, Health, Model, ModelName, Prediction, Size

__all__ = [
    "AsyncClient",
    "Box",
    "ClassProbability",
    "Client",
    "ClientError",
    "Explanation",
    "Health",
    "Model",
    "ModelName",
    "Prediction",
    "ServiceError",
    "Size",
    "UnexpectedAnswer",
    "Unreachable",
    "UnreadableFile",
]
