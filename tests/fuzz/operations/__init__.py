"""How every primitive of the table is called, a module a family of rules."""
