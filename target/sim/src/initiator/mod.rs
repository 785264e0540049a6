//! A small iSCSI initiator for tests.
