"""The service that tutorials end with, as the yardstick: everything in an async handler, torch's default threads.

    NAIVE_MODEL=... NAIVE_ARTIFACT=... uvicorn benchmarks.baselines.naive:app

NAIVE_MODEL is the network's TorchScript file, and the artifact's manifest has the labels, mean and std of that network.
"""

import io
import os
from pathlib import Path

import torch
from fastapi import FastAPI, UploadFile
from PIL import Image
from torchvision import transforms

from app.artifact import manifest

folder = Path(os.environ["NAIVE_MODEL"])
described = manifest.load(Path(os.environ["NAIVE_ARTIFACT"]))
model = torch.jit.load(folder, map_location="cpu").eval()
transform = transforms.Compose(
    [
        transforms.Resize((described.input.height, described.input.width)),
        transforms.ToTensor(),
        transforms.Normalize(described.input.mean, described.input.std),
    ]
)
app = FastAPI()


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "healthy"}


@app.post("/predict")
async def predict(file: UploadFile) -> dict[str, object]:
    image = Image.open(io.BytesIO(await file.read())).convert("RGB")
    with torch.no_grad():
        probabilities = torch.softmax(model(transform(image).unsqueeze(0)), dim=1)[0]
    best = int(probabilities.argmax())
    return {
        "class": described.labels[best],
        "confidence": round(float(probabilities[best]) * 100, 2),
        "all_probabilities": {
            label: round(float(p) * 100, 2) for label, p in zip(described.labels, probabilities, strict=True)
        },
    }
