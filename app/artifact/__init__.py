"""What is served? The manifest, the decoder, the golden self-test and the report; imports nothing else of `app`."""
