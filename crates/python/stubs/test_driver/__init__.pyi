"""What a test script can import of the test driver."""
