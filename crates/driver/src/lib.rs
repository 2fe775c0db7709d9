//! Machines that boot, talk and are tested: the test driver as a library.
