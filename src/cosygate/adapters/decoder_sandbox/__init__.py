"""The decoder for everything that needs a real demuxer and codec: one confined process per recording.

    decoder.py        the port's side, in the gateway: starts decodings, and ends them
    pipe_reader.py    the border of trust: checks everything that a child writes
    streaming.py      of a recording that is still being made: feeds the child, and knows what it owes
    server_link.py    the gateway's end of the fork-server: start, restart, messages
    forkserver.py     a process of its own (exec): loads PyAV once, isolates itself, forks one child per recording
    child.py          the child: PyAV over an open descriptor, PCM into a pipe
    stream_source.py  the child's end of a recording that is still being made
    lockdown.py       the kernel's part: namespaces, Landlock, seccomp, limits, and proof that they work
    frames.py         what travels through the pipe

Nothing is imported here: the fork-server and its children load only what they use. docs/decoder.md tells the rest.
"""
