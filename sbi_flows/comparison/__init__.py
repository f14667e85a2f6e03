"""Methods side by side; the check; figures and the HTML page."""
