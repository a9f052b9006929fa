"""Random programs as users write them, and a soak that kills them: independent of ``tests/core/graphs``.

``shapes`` draws a tree of fan-outs, joins, loops, routes, batches and failures from a seed; ``source`` writes it as
the text of a script; ``program`` runs such a script's workflow inline, on workers that are killed, and with a store;
``soak`` runs a thousand of these scripts, kills them whole, and compares all answers with each other and with a plain
interpreter of the tree that knows nothing of this package.
"""
