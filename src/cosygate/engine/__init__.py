"""The engine process: the only one that loads models. Imports nothing of the gateway but proto, kit and errors."""
