"""How far our words, figures and verdicts agree with datatrove's: `python -m benchmarks.agreement`."""
