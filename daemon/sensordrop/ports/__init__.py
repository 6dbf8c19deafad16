"""The interfaces between the engine and the outside world, with their contracts in prose.

Adapters implement them; the engine knows nothing else of the outside. Each contract says whether
a call blocks, whether threads may share the object, whether a call may be repeated, and what it
raises.
"""
