//! The rules of this module, one test each.
