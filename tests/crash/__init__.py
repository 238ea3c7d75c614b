"""Kill -9 at random moments under load, then count jobs and money against the twins' own bill."""
