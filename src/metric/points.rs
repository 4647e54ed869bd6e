//! The values of a family.

use super::Merge;

/// Values, row by row: one for each row, and of a histogram one for each place.
///
/// Most families have a value in every row, so which rows they are is only kept of those that have not: eight bytes per sample.
#[derive(Clone, Debug, Default)]
pub(super) struct Points {
    /// How many rows have values.
    count: usize,
    /// Which rows they are, rising; none while they are the first ones.
    rows: Option<Vec<u32>>,
    values: Vec<f64>,
}

impl Points {
    /// One value, in the first row.
    pub(super) fn single(value: f64) -> Self {
        Self { count: 1, rows: None, values: vec![value] }
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// The rows that have values.
    pub(super) fn rows(&self) -> impl Iterator<Item = u32> {
        let known = self.rows.as_deref();
        (0..).take(self.count).map(move |at: u32| row_at(known, at))
    }

    /// The values, each with its row and its place among the values of that row.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, u32, f64)> {
        let rows = self.rows.as_deref();
        (0..).zip(self.values.chunks(self.width().max(1))).flat_map(move |(at, values)| {
            let row = row_at(rows, at);
            (0..).zip(values).map(move |(place, &value)| (row, place, value))
        })
    }

    /// Sets the values of a row; what it has already is merged with them.
    pub(super) fn set(&mut self, row: u32, values: impl Iterator<Item = f64>, merge: Merge) {
        match self.find(row) {
            Ok(at) => {
                let start = at * self.width();
                for (known, value) in self.values.iter_mut().skip(start).zip(values) {
                    *known = merge.apply(*known, value);
                }
            }
            Err(at) if at == self.count => {
                self.values.extend(values);
                self.rows.iter_mut().for_each(|rows| rows.push(row));
                self.count += 1;
            }
            Err(at) => {
                let start = at * self.width();
                self.values.splice(start..start, values);
                self.rows.iter_mut().for_each(|rows| rows.insert(at, row));
                self.count += 1;
            }
        }
    }

    /// The same without the rows that are not kept, which are asked for by their place among those that have values.
    pub(super) fn retain(&self, keep: impl Fn(usize) -> bool) -> Self {
        let mut kept = Self { rows: Some(Vec::new()), ..Self::default() };
        let values = self.values.chunks(self.width().max(1));
        for ((_, row), values) in self.rows().enumerate().zip(values).filter(|((at, _), _)| keep(*at)) {
            kept.values.extend(values);
            kept.rows.iter_mut().for_each(|rows| rows.push(row));
            kept.count += 1;
        }
        kept
    }

    pub(super) fn shrink_to_fit(&mut self) {
        self.values.shrink_to_fit();
        self.rows.iter_mut().for_each(Vec::shrink_to_fit);
    }

    /// The bytes it keeps.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.values.capacity() * size_of::<f64>()
            + self.rows.as_ref().map_or(0, |rows| rows.capacity() * size_of::<u32>())
    }

    /// How many values a row has.
    pub(super) fn width(&self) -> usize {
        self.values.len().checked_div(self.count).unwrap_or_default()
    }

    /// Which of the rows that have values it is, or is to become.
    fn find(&mut self, row: u32) -> Result<usize, usize> {
        let sought = row as usize;
        let Some(rows) = &self.rows else {
            if sought < self.count {
                return Ok(sought);
            }
            if sought > self.count {
                self.rows = Some((0..).take(self.count).collect());
            }
            return Err(self.count);
        };
        // Rows come in order but for duplicates, so it is nearly always the next one.
        if rows.last().is_none_or(|&last| last < row) { Err(rows.len()) } else { rows.binary_search(&row) }
    }
}

/// The row in this place among those that have values.
fn row_at(rows: Option<&[u32]>, at: u32) -> u32 {
    rows.map_or(at, |rows| rows.get(at as usize).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(rows: &[u32]) -> Points {
        let mut points = Points::default();
        for &row in rows {
            points.set(row, [f64::from(row), 1.0].into_iter(), Merge::Sum);
        }
        points
    }

    #[test]
    fn rows_may_come_in_any_order_and_leave_gaps() {
        for rows in [&[0, 1, 2][..], &[1, 2], &[0, 2, 5], &[5, 2, 0], &[0, 1, 4, 2]] {
            let mut sorted = rows.to_vec();
            sorted.sort_unstable();
            let expected: Vec<_> = sorted.iter().flat_map(|&row| [(row, 0, f64::from(row)), (row, 1, 1.0)]).collect();
            assert_eq!(filled(rows).iter().collect::<Vec<_>>(), expected, "{rows:?}");
        }
    }

    #[test]
    fn a_row_that_comes_twice_is_one() {
        for rows in [&[0, 1, 0][..], &[0, 3, 3, 0], &[3, 0, 0, 3]] {
            let points = filled(rows);
            let first: Vec<_> = points.iter().filter(|(row, ..)| *row == 0).map(|(.., value)| value).collect();
            assert_eq!((first, points.len()), (vec![0.0, 2.0], 4), "{rows:?}");
        }
        assert_eq!(filled(&[]).iter().count(), 0);
    }

    #[test]
    fn values_in_every_row_take_eight_bytes_each() {
        assert!(filled(&[0, 1, 0, 2]).rows.is_none());
        assert!(filled(&[0, 2]).rows.is_some());
    }
}
