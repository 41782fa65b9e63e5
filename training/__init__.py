"""How an artifact is made."""

import app as app  # before all else: it switches ONNX Runtime's telemetry off
