"""How do bytes become the model's pixels? The only decoder: training, export and service all call it."""
