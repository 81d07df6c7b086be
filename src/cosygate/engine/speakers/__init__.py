"""Who speaks when, embedded: GE2E voice embeddings, clustered. `voices.Diariser` is the door."""
