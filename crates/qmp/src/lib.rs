//! A QMP client: control of QEMU, with events, deadlines and file-descriptor passing.
