"""May it come in? What is bounded before it costs: places, memory, time."""
