"""What the flows need from the world. A port's docstring is its contract; tests/contract runs it over every adapter."""
