"""What the graph works with: each boundary to the outside, with a local twin that ships with the product."""
