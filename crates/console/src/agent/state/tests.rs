//! The session, without an agent.
