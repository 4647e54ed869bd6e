//! Which rows of a bounded definition are shown: the largest, and those that were shown before until they fall clearly
//! behind.

use std::collections::HashSet;

/// The rows shown last, by a number that stands for their labels.
///
/// A plain "N largest" lets rows near the edge come and go with every reading, and each of them is a new series to
/// Prometheus and a new file to Graphite. So a row among the first two thirds of N is always shown, one that is shown
/// stays until it is not among the first 1.5 N, or until it is the last of those shown and its place is needed; the number
/// shown is N, neither more nor less, while there are as many.
#[derive(Debug, Default)]
pub struct Shown(HashSet<u64>);

impl Shown {
    /// Chooses anew among rows given as rank and key, and tells which are to be shown, in the order given. A key that
    /// comes twice counts as two rows: add up equal ones first.
    pub fn choose(&mut self, keep: usize, rows: &[(f64, u64)]) -> Vec<bool> {
        // Of many equal ones the server sends now these first and now those: who is shown already comes before them.
        let place = |(at, &(rank, key)): (usize, &(f64, u64))| (rank, self.0.contains(&key), key, at);
        let mut order: Vec<_> = rows.iter().enumerate().map(place).collect();
        order.sort_by(|(left, left_shown, ..), (right, right_shown, ..)| {
            right.total_cmp(left).then_with(|| right_shown.cmp(left_shown))
        });
        let (enter, stay) = (keep - keep / 3, keep.saturating_add(keep / 2));
        let mut chosen: Vec<bool> =
            (0..).zip(&order).map(|(place, (_, is_shown, ..))| place < enter || (place < stay && *is_shown)).collect();
        let count = chosen.iter().filter(|chosen| **chosen).count();
        let surplus = chosen.iter_mut().rev().filter(|chosen| **chosen).take(count.saturating_sub(keep));
        surplus.for_each(|chosen| *chosen = false);
        let room = chosen.iter_mut().filter(|chosen| !**chosen).take(keep.saturating_sub(count));
        room.for_each(|chosen| *chosen = true);

        let mut shown = vec![false; rows.len()];
        self.0.clear();
        for (.., key, at) in order.iter().zip(chosen).filter(|(_, chosen)| *chosen).map(|(row, _)| row) {
            self.0.insert(*key);
            if let Some(shown) = shown.get_mut(*at) {
                *shown = true;
            }
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Chooses 6 among rows of these ranks; the keys are their places.
    fn choose(shown: &mut Shown, ranks: &[f64]) -> Vec<usize> {
        let rows: Vec<_> = ranks.iter().copied().zip(0..).collect();
        let chosen = shown.choose(6, &rows);
        chosen.iter().enumerate().filter(|(_, chosen)| **chosen).map(|(at, _)| at).collect()
    }

    #[test]
    fn a_shown_row_stays_until_it_falls_clearly_behind() {
        let mut shown = Shown::default();
        let mut ranks = [10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0];
        assert_eq!(choose(&mut shown, &ranks), [0, 1, 2, 3, 4, 5]);
        // The sixth falls to the eighth place, then to the tenth.
        ranks[5] = 2.5;
        assert_eq!(choose(&mut shown, &ranks), [0, 1, 2, 3, 4, 5]);
        ranks[5] = 0.5;
        assert_eq!(choose(&mut shown, &ranks), [0, 1, 2, 3, 4, 6]);
    }

    #[test]
    fn who_comes_to_the_top_takes_the_place_of_the_last() {
        let mut shown = Shown::default();
        let mut ranks = [10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0];
        choose(&mut shown, &ranks);
        ranks[6] = 6.5;
        assert_eq!(choose(&mut shown, &ranks), [0, 1, 2, 3, 4, 5], "the fifth of six is not the top");
        ranks[6] = 7.5;
        assert_eq!(choose(&mut shown, &ranks), [0, 1, 2, 3, 4, 6]);
    }

    #[test]
    fn equal_rows_in_another_order_are_the_same_rows() {
        let mut shown = Shown::default();
        let rows: Vec<_> = (0..100).map(|key| (1.0, key)).collect();
        let first = shown.choose(10, &rows);
        let again = shown.choose(10, &rows.iter().rev().copied().collect::<Vec<_>>());
        assert_eq!(first, again.into_iter().rev().collect::<Vec<_>>());
    }

    #[test]
    fn rows_at_the_edge_do_not_come_and_go() {
        const KEEP: usize = 100;
        let noise = |key: u64, reading: u64| {
            let mixed = (key * 1_000_003 + reading).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
            (mixed % 1_000) as f64 / 1_000.0
        };
        let (mut steady, mut plain) = (0, 0);
        let (mut shown, mut before) = (Shown::default(), HashSet::new());
        for reading in 0..200 {
            // Loads that fall off slowly and change by up to half from one reading to the next.
            let rows: Vec<_> =
                (0..1_000).map(|key| (1e6 / (50.0 + key as f64) * (0.8 + noise(key, reading) * 0.4), key)).collect();
            let last = shown.0.clone();
            shown.choose(KEEP, &rows);
            let mut ranked = rows.clone();
            ranked.sort_by(|left, right| right.0.total_cmp(&left.0));
            let largest: HashSet<_> = ranked.iter().take(KEEP).map(|(_, key)| *key).collect();
            if reading > 0 {
                steady += shown.0.difference(&last).count();
                plain += largest.difference(&before).count();
            }
            before = largest;
        }
        assert!(plain > 199 * 5, "{plain} new rows by size alone");
        assert!(steady * 50 < plain, "{steady} new rows instead of {plain}");
    }

    proptest! {
        #[test]
        fn as_many_as_fit_are_shown_and_the_top_always(
            keep in 0usize..30,
            readings in prop::collection::vec(prop::collection::vec(0u32..50, 0..60), 1..5)
        ) {
            let mut shown = Shown::default();
            for ranks in readings {
                let rows: Vec<_> = ranks.iter().map(|rank| f64::from(*rank)).zip(0..).collect();
                let chosen = shown.choose(keep, &rows);
                prop_assert_eq!(chosen.iter().filter(|chosen| **chosen).count(), keep.min(rows.len()));
                let above = |rank: f64| rows.iter().filter(|(other, _)| *other >= rank).count();
                for ((rank, _), chosen) in rows.iter().zip(chosen) {
                    prop_assert!(chosen || above(*rank) > keep - keep / 3);
                }
            }
        }
    }
}
