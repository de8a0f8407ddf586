// SPDX-License-Identifier: Apache-2.0
//! Lists that are in order and have nothing twice.

use super::Ordered;

/// Puts these in order, each once.
pub fn distinct<T: Ord>(mut list: Vec<T>) -> Vec<T> {
    list.order();
    list.dedup();
    list
}

/// Puts one where it belongs; false if the list has it already. What is behind it moves: for thousands
/// at most.
pub fn include<T: Ord>(list: &mut Vec<T>, one: T) -> bool {
    match list.binary_search(&one) {
        Ok(_) => false,
        Err(place) => {
            list.insert(place, one);
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_in_order_and_has_nothing_twice() {
        let mut list = Vec::new();
        let new: Vec<bool> = [3, 1, 2, 3, 1].map(|one| include(&mut list, one)).to_vec();
        assert_eq!((list, new), (vec![1, 2, 3], vec![true, true, true, false, false]));
        assert_eq!(distinct(vec![3, 1, 2, 3, 1]), [1, 2, 3]);
    }
}
