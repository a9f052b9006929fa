"""The real coordinator's logic in one thread, with a seeded schedule of everything that can go wrong.

``world`` drives the real ``Scheduler``, core and stores; ``worker`` has workers that are no processes, ``deaths`` says
who is to blame when they die, ``job`` is a run as its user sees it; ``faults`` stand between scheduler and store;
``clock`` is time; ``cases`` are graphs with what they come to undisturbed, and ``runner`` plays one schedule. What must
be true in the end is said in ``tests.history``.

``python -m tests.simulation --runs 100000 --processes 2`` plays that many; a fault is printed with its seed.
"""
