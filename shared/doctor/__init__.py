"""What breaks such systems in the field, looked for: each module looks at one thing and yields findings."""
