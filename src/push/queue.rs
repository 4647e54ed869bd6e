//! What waits to be sent, and what was sent but may not have been read.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Lines of points, bounded by their number; beyond it the oldest are dropped one by one.
///
/// All lines of an interval are one text, so that a point costs its own bytes and nothing else.
#[derive(Debug)]
pub struct Queue {
    most: usize,
    keep_for: Duration,
    waiting: VecDeque<Batch>,
    sent: VecDeque<(Instant, Batch)>,
    /// Points in `waiting`.
    len: usize,
}

/// The lines of one interval that are still there.
#[derive(Debug)]
pub struct Batch {
    text: Vec<u8>,
    /// Where the lines begin that have not been dropped.
    start: usize,
    points: usize,
    was_sent: bool,
}

impl Batch {
    fn new(lines: String) -> Self {
        let points = lines.lines().count();
        let mut text = lines.into_bytes();
        text.shrink_to_fit();
        Self { text, start: 0, points, was_sent: false }
    }

    /// The lines, each with its line end.
    pub fn lines(&self) -> &[u8] {
        self.text.get(self.start..).unwrap_or_default()
    }

    /// How many lines there are.
    pub fn points(&self) -> usize {
        self.points
    }

    /// Whether they were written to an earlier connection.
    pub fn was_sent(&self) -> bool {
        self.was_sent
    }

    fn drop_oldest(&mut self, most: usize) -> usize {
        let dropped = most.min(self.points);
        for _ in 0..dropped {
            let line = self.lines().iter().position(|&byte| byte == b'\n').map_or(0, |end| end + 1);
            self.start += line;
        }
        self.points -= dropped;
        dropped
    }
}

impl Queue {
    /// An empty queue for at most `most` points, which keeps for `keep_for` what was sent.
    pub fn new(most: usize, keep_for: Duration) -> Self {
        Self { most, keep_for, waiting: VecDeque::new(), sent: VecDeque::new(), len: 0 }
    }

    /// How many points wait; those that were sent and are only kept do not count.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds the lines of an interval; returns how many points that never were sent are lost for it.
    pub fn push(&mut self, lines: String) -> usize {
        let batch = Batch::new(lines);
        if batch.points > 0 {
            self.len += batch.points;
            self.waiting.push_back(batch);
        }
        self.shed()
    }

    /// Takes the oldest batch out, to be given back through [`Queue::keep`] or [`Queue::put_back`].
    pub fn take(&mut self) -> Option<Batch> {
        let batch = self.waiting.pop_front()?;
        self.len -= batch.points;
        Some(batch)
    }

    /// Keeps a batch that has been sent, and forgets those that were sent too long ago.
    ///
    /// Time counts only when something is sent: in an outage nothing is forgotten.
    pub fn keep(&mut self, mut batch: Batch, now: Instant) {
        batch.was_sent = true;
        self.sent.push_back((now, batch));
        while self.sent.front().is_some_and(|(then, _)| now.duration_since(*then) > self.keep_for) {
            self.sent.pop_front();
        }
        self.shed();
    }

    /// Gives back a batch that could not be sent whole; returns how many points are lost for it.
    pub fn put_back(&mut self, batch: Batch) -> usize {
        self.len += batch.points;
        self.waiting.push_front(batch);
        self.shed()
    }

    /// Lets all that is kept wait once more, before all else.
    pub fn send_again(&mut self) {
        for (_, batch) in self.sent.drain(..).rev() {
            self.len += batch.points;
            self.waiting.push_front(batch);
        }
    }

    /// Keeps the bound: what was sent goes first, as it has most likely arrived.
    fn shed(&mut self) -> usize {
        let mut kept: usize = self.sent.iter().map(|(_, batch)| batch.points).sum();
        while self.len + kept > self.most {
            let Some((_, batch)) = self.sent.pop_front() else { break };
            kept -= batch.points;
        }
        let mut lost = 0;
        while self.len > self.most {
            let Some(oldest) = self.waiting.front_mut() else { break };
            let dropped = oldest.drop_oldest(self.len - self.most);
            self.len -= dropped;
            lost += if oldest.was_sent { 0 } else { dropped };
            if oldest.points == 0 {
                self.waiting.pop_front();
            }
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(queue: &mut Queue) -> String {
        let mut out = String::new();
        while let Some(batch) = queue.take() {
            out.push_str(std::str::from_utf8(batch.lines()).unwrap());
        }
        out
    }

    #[test]
    fn the_oldest_points_are_dropped_one_by_one() {
        let mut queue = Queue::new(4, Duration::from_secs(2));
        assert_eq!(queue.push("a\nb\nc\n".to_owned()), 0);
        assert_eq!(queue.push("d\ne\n".to_owned()), 1);
        assert_eq!(queue.len(), 4);
        assert_eq!(queue.push("f\ng\nh\n".to_owned()), 3);
        assert_eq!(queue.push(String::new()), 0);
        assert_eq!(text(&mut queue), "e\nf\ng\nh\n");
        assert!(queue.is_empty());
        assert_eq!(queue.push("1\n2\n3\n4\n5\n6\n".to_owned()), 2);
        assert_eq!(text(&mut queue), "3\n4\n5\n6\n");
    }

    #[test]
    fn what_was_sent_last_is_sent_again_in_its_order() {
        let start = Instant::now();
        let mut queue = Queue::new(100, Duration::from_secs(2));
        for (second, line) in ["a\n", "b\n", "c\n", "d\n"].into_iter().enumerate() {
            queue.push(line.to_owned());
            let batch = queue.take().unwrap();
            assert!(!batch.was_sent());
            queue.keep(batch, start + Duration::from_secs(second as u64));
        }
        assert!(queue.is_empty());
        queue.push("e\n".to_owned());
        queue.send_again();
        queue.send_again();
        assert_eq!(queue.len(), 4);
        assert!(queue.waiting[0].was_sent());
        assert_eq!(text(&mut queue), "b\nc\nd\ne\n");
    }

    #[test]
    fn a_batch_that_broke_off_is_sent_whole_and_first() {
        let mut queue = Queue::new(3, Duration::from_secs(2));
        queue.push("a\nb\n".to_owned());
        queue.push("c\n".to_owned());
        let batch = queue.take().unwrap();
        assert_eq!(queue.push("d\n".to_owned()), 0);
        assert_eq!(queue.put_back(batch), 1);
        assert_eq!(text(&mut queue), "b\nc\nd\n");
    }

    #[test]
    fn what_was_sent_makes_room_and_is_not_counted_as_lost() {
        let mut queue = Queue::new(2, Duration::from_secs(2));
        queue.push("a\nb\n".to_owned());
        let batch = queue.take().unwrap();
        queue.keep(batch, Instant::now());
        queue.send_again();
        assert_eq!(queue.push("c\n".to_owned()), 0);
        assert_eq!(text(&mut queue), "b\nc\n");
    }
}
