// What an invocation takes together: four neighbouring elements of a row.
alias Value = vec4<f32>;
