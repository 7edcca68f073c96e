enable f16;
enable wgpu_cooperative_matrix;
// Products by cooperative matrices of MATRIX x MATRIX halves, summed in 32 bits. What is multiplied is a float all the same: scaled by a
// power of two, it is the sum of a half and 1 / 2048 of another, which hold 22 bits, and a product takes three of halves (that of the two
// lower ones is 2^-22 of it or less). One scale serves a block of a factor, SPAN rows by MATRIX_TERMS terms, and takes its largest element
// to between 2^14 and 2^15: none overflows, and those that lose bits are below 2^-28 of the largest.
//
// A workgroup computes a SPAN x SPAN tile of the product, each of its first four subgroups a quarter: two by two matrices. INVOCATIONS is
// four times the largest subgroup; where the driver takes smaller ones, the others only load.

const SPAN = 4u * MATRIX;
const MATRIX_TERMS = 16u;
const HALVES = SPAN * MATRIX_TERMS;
const ELEMENTS = HALVES / INVOCATIONS;
const LOWER = 2048.0;

var<workgroup> halves_a: array<f16, 2u * HALVES>; // (upper or lower, product row, term)
var<workgroup> halves_b: array<f16, 2u * HALVES>; // (upper or lower, product column, term)
var<workgroup> largest: array<vec2<f32>, INVOCATIONS>; // of a block of a and b, by subgroup
var<workgroup> quarters: array<f32, 4u * MATRIX * MATRIX>; // a matrix of each quarter

// Element of a factor; 0 beyond its rows and beyond the terms of the split.
fn element_a(row: u32, term: u32, end: u32) -> f32 {
    return select(0.0, near_a(row, term), row < params.n_product_row && term < end);
}

fn element_b(column: u32, term: u32, end: u32) -> f32 {
    return select(0.0, near_b(column, term), column < params.n_product_column && term < end);
}

// (row, term) of an element of a block that an invocation loads, so that neighbours read neighbouring elements
fn row_and_term(element: u32, by_term: bool) -> vec2<u32> {
    return select(vec2(element / MATRIX_TERMS, element % MATRIX_TERMS), vec2(element % SPAN, element / SPAN), by_term);
}

// the powers of two that have these exponents' bits
fn from_exponents(exponents: vec2<u32>) -> vec2<f32> {
    return bitcast<vec2<f32>>(exponents << vec2(23u));
}

// The upper and the lower half of a float. The upper one is rounded by hand: drivers take f32(f16(value)) for the value itself.
fn halves_of(value: f32) -> vec2<f16> {
    let upper = bitcast<f32>((bitcast<u32>(value) + 0x1000u) & 0xffffe000u);
    return vec2<f16>(vec2(upper, (value - upper) * LOWER));
}

// `sum` and the product of two matrices, which begin at these halves, times both inverse scales.
fn add_product(sum: MatrixC, at_a: u32, at_b: u32, inverses: vec2<f32>) -> MatrixC {
    let upper_a = coopLoadT<MatrixA>(&halves_a[at_a], MATRIX_TERMS);
    let upper_b = coopLoad<MatrixB>(&halves_b[at_b], MATRIX_TERMS);
    let lower_a = coopLoadT<MatrixA>(&halves_a[HALVES + at_a], MATRIX_TERMS);
    let lower_b = coopLoad<MatrixB>(&halves_b[HALVES + at_b], MATRIX_TERMS);
    let lower = coopMultiplyAdd(lower_a, upper_b, coopMultiplyAdd(upper_a, lower_b, MatrixC()));
    return sum + coopMultiplyAdd(upper_a, upper_b, lower * (1.0 / LOWER)) * inverses.x * inverses.y;
}

// one tile of the product, over the terms of one split
@compute @workgroup_size(INVOCATIONS)
fn multiply_matrices(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(num_subgroups) n_subgroup: u32,
) {
    let row = group.y * SPAN;
    let column = group.x * SPAN;
    let first = group.z * params.split_terms;
    let end = min(first + params.split_terms, params.n_term);
    let quarter_a = subgroup / 2u * 2u * MATRIX * MATRIX_TERMS;
    let quarter_b = subgroup % 2u * 2u * MATRIX * MATRIX_TERMS;
    var sum_00 = MatrixC();
    var sum_01 = MatrixC();
    var sum_10 = MatrixC();
    var sum_11 = MatrixC();
    for (var term = first; term < end; term += MATRIX_TERMS) {
        var values_a: array<f32, ELEMENTS>;
        var values_b: array<f32, ELEMENTS>;
        var magnitudes = vec2<f32>();
        for (var i = 0u; i < ELEMENTS; i++) {
            let place_a = row_and_term(index + i * INVOCATIONS, A_BY_TERM);
            let place_b = row_and_term(index + i * INVOCATIONS, B_BY_TERM);
            values_a[i] = element_a(row + place_a.x, term + place_a.y, end);
            values_b[i] = element_b(column + place_b.x, term + place_b.y, end);
            magnitudes = max(magnitudes, abs(vec2(values_a[i], values_b[i])));
        }
        let of_subgroup = subgroupMax(magnitudes);
        if lane == 0u {
            largest[subgroup] = of_subgroup;
        }
        workgroupBarrier();
        for (var other = 0u; other < n_subgroup; other++) {
            magnitudes = max(magnitudes, largest[other]);
        }
        // take the magnitudes to between 2^14 and 2^15, as far as a scale and its inverse are normal
        let exponents = clamp(vec2(268u) - (bitcast<vec2<u32>>(magnitudes) >> vec2(23u)), vec2(1u), vec2(253u));
        let scales = from_exponents(exponents);
        for (var i = 0u; i < ELEMENTS; i++) {
            let place_a = row_and_term(index + i * INVOCATIONS, A_BY_TERM);
            let place_b = row_and_term(index + i * INVOCATIONS, B_BY_TERM);
            let pair_a = halves_of(values_a[i] * scales.x);
            let pair_b = halves_of(values_b[i] * scales.y);
            let at_a = place_a.x * MATRIX_TERMS + place_a.y;
            let at_b = place_b.x * MATRIX_TERMS + place_b.y;
            halves_a[at_a] = pair_a.x;
            halves_a[HALVES + at_a] = pair_a.y;
            halves_b[at_b] = pair_b.x;
            halves_b[HALVES + at_b] = pair_b.y;
        }
        workgroupBarrier();
        if subgroup < 4u {
            let inverses = from_exponents(vec2(254u) - exponents);
            for (var i = 0u; i < MATRIX_TERMS; i += MATRIX) {
                let next = MATRIX * MATRIX_TERMS;
                sum_00 = add_product(sum_00, quarter_a + i, quarter_b + i, inverses);
                sum_01 = add_product(sum_01, quarter_a + i, quarter_b + next + i, inverses);
                sum_10 = add_product(sum_10, quarter_a + next + i, quarter_b + i, inverses);
                sum_11 = add_product(sum_11, quarter_a + next + i, quarter_b + next + i, inverses);
            }
        }
    }
    for (var matrix = 0u; matrix < 4u; matrix++) {
        let at = subgroup * MATRIX * MATRIX;
        workgroupBarrier();
        if subgroup < 4u {
            switch matrix {
                case 0u: { coopStoreT(sum_00, &quarters[at], MATRIX); }
                case 1u: { coopStoreT(sum_01, &quarters[at], MATRIX); }
                case 2u: { coopStoreT(sum_10, &quarters[at], MATRIX); }
                default: { coopStoreT(sum_11, &quarters[at], MATRIX); }
            }
        }
        workgroupBarrier();
        for (var i = index; i < 4u * MATRIX * MATRIX; i += INVOCATIONS) {
            let quarter = i / (MATRIX * MATRIX);
            let to_row = row + (quarter / 2u * 2u + matrix / 2u) * MATRIX + i % (MATRIX * MATRIX) / MATRIX;
            let to_column = column + (quarter % 2u * 2u + matrix % 2u) * MATRIX + i % MATRIX;
            if to_row < params.n_product_row {
                var value = quarters[i];
                if HAS_BIAS {
                    value += bias[params.bias_offset + min(to_column, params.n_product_column - 1u)];
                }
                put_element(params.first_part + group.z, to_row, to_column, value);
            }
        }
    }
}
