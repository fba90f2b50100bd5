"""What both test trees borrow: how programs are compiled and kept, which tests run first."""
