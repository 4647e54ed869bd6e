//! Who is next on a lane.

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::error::TryRecvError;

/// What readers asked of a lane and did not get yet.
#[derive(Debug)]
pub(super) struct Queue<T> {
    asks: UnboundedReceiver<T>,
    waiting: Vec<T>,
}

impl<T> Queue<T> {
    /// A queue of what will be sent.
    pub(super) fn new(asks: UnboundedReceiver<T>) -> Self {
        Self { asks, waiting: Vec::new() }
    }

    /// Waits until somebody asks; false when nobody is left who could.
    pub(super) async fn fill(&mut self) -> bool {
        if self.waiting.is_empty() {
            let Some(ask) = self.asks.recv().await else { return false };
            self.waiting.push(ask);
        }
        self.refill()
    }

    /// Takes in what was asked meanwhile; false when nobody is left who could.
    pub(super) fn refill(&mut self) -> bool {
        loop {
            match self.asks.try_recv() {
                Ok(ask) => self.waiting.push(ask),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    /// The one of least rank, and of several the one who came first.
    pub(super) fn next<R: Ord>(&self, rank: impl Fn(&T) -> R) -> Option<&T> {
        self.waiting.iter().min_by_key(|ask| rank(ask))
    }

    /// Takes that one.
    pub(super) fn take<R: Ord>(&mut self, rank: impl Fn(&T) -> R) -> Option<T> {
        let (next, _) = self.waiting.iter().enumerate().min_by_key(|(_, ask)| rank(ask))?;
        Some(self.waiting.remove(next))
    }

    /// Lets one wait again who was taken and did not get what was asked.
    pub(super) fn put_back(&mut self, ask: T) {
        self.waiting.insert(0, ask);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    #[tokio::test]
    async fn the_least_rank_is_next_and_among_equals_who_came_first() {
        let (sender, asks) = unbounded_channel();
        let mut queue = Queue::new(asks);
        let mut taken = Vec::new();
        for ask in [(2, 'a'), (1, 'b'), (2, 'c'), (1, 'd')] {
            sender.send(ask).unwrap();
        }
        assert!(queue.fill().await);
        taken.extend(queue.take(|ask| ask.0));
        sender.send((0, 'e')).unwrap();
        while taken.len() < 5 {
            assert!(queue.fill().await);
            taken.extend(queue.take(|ask| ask.0));
        }
        assert_eq!(queue.next(|ask| ask.0), None);
        queue.put_back((2, 'c'));
        queue.put_back((2, 'f'));
        assert_eq!(queue.next(|ask| ask.0), Some(&(2, 'f')));
        assert_eq!(queue.take(|ask| ask.0), Some((2, 'f')));
        assert_eq!(taken, [(1, 'b'), (0, 'e'), (1, 'd'), (2, 'a'), (2, 'c')]);
        drop(sender);
        assert!(!queue.refill() && !queue.fill().await);
    }
}
