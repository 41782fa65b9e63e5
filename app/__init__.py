"""How is an artifact served?"""

import os

DISTRIBUTION = "sightglass-serve"  # whose version importlib.metadata knows

# ONNX Runtime reports every session to its makers since 1.29 unless this is set before it is first imported
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
