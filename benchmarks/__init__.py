"""What the platform costs, as ratios that one machine measures in one run: `python -m benchmarks --help`.

Belongs here: measuring, and what the figures are compared with. Does not belong here: claims about other
machines, correctness (that is what tests are for).
"""
