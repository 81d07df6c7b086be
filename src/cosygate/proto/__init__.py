"""The engine's gRPC contract and the code generated from it (`make proto`)."""
