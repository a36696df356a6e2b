"""What is measured: each module is a script, none of them a test."""
