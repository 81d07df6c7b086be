"""`make bench-overload`: more than the server can do. Ten times its capacity beside live streams, one tenant at a
hundred times its share; an engine that fails or hangs; 500 sockets that never come to the point.

One module a work; `arrivals.py` is the load generator, a process of its own, which waits for no answer before it sends
the next recording.
"""
