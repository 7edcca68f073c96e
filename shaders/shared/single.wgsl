// What an invocation takes together: one element of a row.
alias Value = f32;
