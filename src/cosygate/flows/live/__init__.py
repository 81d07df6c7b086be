"""Speech as it is spoken: sessions that survive cut lines, dead gateways and dead engines. Begin with desk.py."""
