"""The Python client of a running service: `Client`, and `AsyncClient` with the same methods to await.

    with Client("http://localhost:8000") as service:
        print(service.predict("cat.jpg").prediction)

It needs httpx2 and nothing else of what Sightglass needs.
"""

from app.client.answers import Box, ClassProbability, Explanation, Health, Model, ModelName, Prediction, Size
from app.client.clients import AsyncClient, Client
from app.client.errors import ClientError, ServiceError, UnexpectedAnswer, Unreachable, UnreadableFile

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
