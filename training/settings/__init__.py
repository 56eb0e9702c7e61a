"""What a run can be told: every setting, its limits, and how gaps are filled."""
