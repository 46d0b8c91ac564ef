"""What an intervention does inside: routing, divergence, geometry, specialisation, and the tests of it."""
