"""What compare.py is made of: scenarios, loads, checks, rounds, tables, the plot."""
