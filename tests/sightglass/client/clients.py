"""Both clients, called alike."""

import asyncio
from collections.abc import Callable
from typing import Any

from sightglass.client import AsyncClient, Client

Ask = Callable[..., Any]


def ask_sync(url: str, method: str, *arguments: Any, made: dict[str, Any] | None = None, **options: Any) -> Any:
    """The result of one method; of predict_many the list. `made`: how the client is made."""
    with Client(url, **(made or {})) as client:
        answer = getattr(client, method)(*arguments, **options)
        return list(answer) if method == "predict_many" else answer


def ask_async(url: str, method: str, *arguments: Any, made: dict[str, Any] | None = None, **options: Any) -> Any:
    """See ask_sync."""

    async def ask() -> Any:
        async with AsyncClient(url, **(made or {})) as client:
            answer = getattr(client, method)(*arguments, **options)
            return [each async for each in answer] if method == "predict_many" else await answer

    return asyncio.run(ask())
