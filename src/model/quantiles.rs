//! Quantiles that do not cross.

/// Puts the forecasts of each output, `(.., level)`, in rising order, as the levels of a quantile loss are: monotone rearrangement
/// (Chernozhukov, Fernández-Val and Galichon 2010, arXiv 0704.3649), which brings no quantile further from the true one.
///
/// ```
/// let mut forecasts = [3.0, 1.0, 2.0, 5.0, 6.0, 7.0];
/// scanrnn::model::rearrange(&mut forecasts, 3);
/// assert_eq!(forecasts, [1.0, 2.0, 3.0, 5.0, 6.0, 7.0]);
/// ```
pub fn rearrange(forecasts: &mut [f32], n_level: usize) {
    if n_level > 1 {
        forecasts.chunks_exact_mut(n_level).for_each(|levels| levels.sort_by(f32::total_cmp));
    }
}
