//! The test driver's Python side: the interpreter and the script's symbols.
