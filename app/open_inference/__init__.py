"""How do Triton's and KServe's clients ask? The Open Inference Protocol v2, with binary tensors and classification.

https://github.com/kserve/open-inference-protocol, https://github.com/triton-inference-server/server/tree/main/docs/protocol
"""
