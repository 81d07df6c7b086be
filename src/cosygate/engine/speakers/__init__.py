"""Who speaks when: GE2E voice embeddings, clustered (`voices.Diariser` is the door), or the models of a folder."""
