"""What is served: the manifest, the decoder and the golden self-test. Imports nothing else of `app`."""
