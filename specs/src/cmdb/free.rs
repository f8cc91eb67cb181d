//! Which entries are free: one bit each, because a hall has 100,000 of them.

/// Positions, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Free {
    words: Vec<u64>,
    count: usize,
    /// No word before this one has a bit.
    first: usize,
}

impl Free {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn contains(&self, position: usize) -> bool {
        let word = self.words.get(position / 64).copied().unwrap_or(0);
        word & bit(position) != 0
    }

    pub(super) fn insert(&mut self, position: usize) {
        let word = position / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        if !self.contains(position) {
            self.words[word] |= bit(position);
            self.count += 1;
            self.first = self.first.min(word);
        }
    }

    pub(super) fn remove(&mut self, position: usize) {
        if self.contains(position) {
            self.words[position / 64] &= !bit(position);
            self.count -= 1;
            while self.words.get(self.first) == Some(&0) {
                self.first += 1;
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let words = self.words.iter().enumerate().skip(self.first).filter(|(_, word)| **word != 0);
        words.flat_map(|(number, word)| {
            (0..64).filter(move |at| word & bit(*at) != 0).map(move |at| number * 64 + at)
        })
    }
}

fn bit(position: usize) -> u64 {
    1 << (position % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_come_and_go_in_order() {
        let mut free = Free::default();
        for position in [200, 3, 64, 63, 3] {
            free.insert(position);
        }
        assert_eq!((free.len(), free.iter().collect::<Vec<_>>()), (4, vec![3, 63, 64, 200]));
        for position in [3, 63, 7, 64] {
            free.remove(position);
        }
        assert_eq!((free.len(), free.iter().collect::<Vec<_>>()), (1, vec![200]));
        assert!(free.contains(200) && !free.contains(3) && !free.contains(10_000));
        free.insert(3);
        assert_eq!(free.iter().collect::<Vec<_>>(), [3, 200]);
    }
}
