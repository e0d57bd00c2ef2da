"""Networks: what they see, what they answer, and running them."""
