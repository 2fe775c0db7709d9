//! With real guests.
