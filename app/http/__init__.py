"""How is it said? What every route shares of HTTP."""
