"""The Open Inference Protocol v2 with the binary tensor and classification extensions: bytes to plain data and back.

https://github.com/kserve/open-inference-protocol, https://github.com/triton-inference-server/server/tree/main/docs/protocol
"""
