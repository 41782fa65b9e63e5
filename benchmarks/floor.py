"""The bare HTTP floor: our server, our upload code, a constant answer; neither a decoder nor a network.

uvicorn benchmarks.floor:app --log-level warning --no-access-log
"""

from fastapi import FastAPI, Request

from app.routes.upload import read_picture

_ANSWER = {
    "prediction": "cat",
    "confidence": 0.99,
    "top_k": [{"class": "cat", "probability": 0.99}] * 5,
    "model": {"name": "floor", "version": 1, "variant": "none"},
}
app = FastAPI()


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/predict")
async def predict(request: Request) -> dict[str, object]:
    await read_picture(request, 10_000_000, lambda _size: None)
    return _ANSWER
