"""What an HTTP answer costs, beside what decoding and the network alone cost: `make bench`."""
