"""What a decision can rest on: report.json and report.html."""
