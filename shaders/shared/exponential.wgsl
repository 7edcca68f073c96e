// 2^x by the series of 2^f, |f| <= 1/2, to about 1 unit in the last place: drivers' own exp2 is allowed 3 + 2 |x|, which a scan's gradients
// show. Below 2^-126.5 the result is 0. The scale is made of the low bits of a sum that is exact: 2^23 + 2^22 + 127 + the whole part.
fn power_of_two(x: vec4<f32>) -> vec4<f32> {
    let bounded = clamp(x, vec4(-127.0), vec4(127.0));
    let whole = round(bounded);
    let f = bounded - whole;
    var series = f * 1.5252734e-5 + 1.5403530e-4;
    series = series * f + 1.3333558e-3;
    series = series * f + 9.6181291e-3;
    series = series * f + 5.5504109e-2;
    series = series * f + 2.4022651e-1;
    series = series * f + 6.9314718e-1;
    series = series * f + 1.0;
    let scale = bitcast<vec4<f32>>(bitcast<vec4<u32>>(whole + 12583039.0) << vec4(23u));
    return series * scale;
}
