"""How is an artifact made?"""

import app as app  # before all else: it switches ONNX Runtime's telemetry off
