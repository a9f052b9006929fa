"""How someone else proves their store or engine: conformance suites for the ports."""
