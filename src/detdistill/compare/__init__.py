"""Many runs, one table: which method helps this student, with this teacher, on these data."""
