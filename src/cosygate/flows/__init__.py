"""The story of a recording, one chapter a file. Flows know ports and model, never a technology."""
