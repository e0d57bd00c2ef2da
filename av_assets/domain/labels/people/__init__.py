"""Labels that people make: what they are asked, what they hand in, and how it becomes final."""
