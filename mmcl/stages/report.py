def report(plan, run): pass
