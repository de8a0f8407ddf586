// SPDX-License-Identifier: Apache-2.0
//! Who comes next, where subjects take turns.

/// The numbers below `count` in an order that is the round's own, and the same in
/// every run (Fisher and Yates, with Knuth's multiplier).
pub fn order(round: usize, count: usize) -> Vec<usize> {
    let mut numbers: Vec<usize> = (0..count).collect();
    let mut state = round as u64;
    for last in (1..count).rev() {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        numbers.swap(last, (state >> 33) as usize % (last + 1));
    }
    numbers
}
