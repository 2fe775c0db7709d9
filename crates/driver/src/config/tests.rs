//! What heads and JSON files are taken, and what is said of those that are not.
