"""How good labels are: against verified ones, per class and slice, and which score is enough."""
