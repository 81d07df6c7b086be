"""When each word of a known text was said: how it is spoken, where the child process heard it, what is then shown."""
