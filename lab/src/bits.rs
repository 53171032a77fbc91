//! PURE: a set of sequence numbers, one bit each.

/// Grows as far as its largest member.
#[derive(Debug, Clone, Default)]
pub(super) struct Bits {
    words: Vec<u64>,
}

impl Bits {
    /// Puts `at` in; says whether it was new.
    pub(super) fn insert(&mut self, at: u64) -> bool {
        let (word, bit) = place(at);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        match self.words.get_mut(word) {
            Some(word) => {
                let new = *word & bit == 0;
                *word |= bit;
                new
            }
            None => false,
        }
    }

    pub(super) fn contains(&self, at: u64) -> bool {
        let (word, bit) = place(at);
        self.words.get(word).is_some_and(|w| w & bit != 0)
    }

    pub(super) fn count(&self) -> u64 {
        self.words.iter().map(|w| u64::from(w.count_ones())).sum()
    }

    /// Everything in either.
    pub(super) fn union(&self, other: &Bits) -> Bits {
        let length = self.words.len().max(other.words.len());
        let words = (0..length).map(|i| self.word(i) | other.word(i)).collect();
        Bits { words }
    }

    /// What is here and not in `other`: how many, and the first `examples_max` of them.
    pub(super) fn without(&self, other: &Bits, examples_max: usize) -> (u64, Vec<u64>) {
        let (mut count, mut examples) = (0, Vec::new());
        for (i, word) in (0_u64..).zip(0..self.words.len()) {
            let mut left = self.word(word) & !other.word(word);
            count += u64::from(left.count_ones());
            while left != 0 && examples.len() < examples_max {
                examples.push(i * 64 + u64::from(left.trailing_zeros()));
                left &= left - 1;
            }
        }
        (count, examples)
    }

    fn word(&self, i: usize) -> u64 {
        self.words.get(i).copied().unwrap_or(0)
    }
}

fn place(at: u64) -> (usize, u64) {
    (usize::try_from(at / 64).unwrap_or(usize::MAX), 1 << (at % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set(a in prop::collection::vec(0_u64..300, 0..80), b in prop::collection::vec(0_u64..300, 0..80)) {
            let fill = |values: &[u64]| {
                let (mut bits, mut set) = (Bits::default(), BTreeSet::new());
                for v in values {
                    assert_eq!(bits.insert(*v), set.insert(*v));
                }
                (bits, set)
            };
            let ((a, sa), (b, sb)) = (fill(&a), fill(&b));
            let difference: Vec<u64> = sa.difference(&sb).copied().collect();
            prop_assert_eq!(a.without(&b, usize::MAX), (difference.len() as u64, difference));
            prop_assert_eq!(a.union(&b).count(), sa.union(&sb).count() as u64);
            prop_assert!((0..400).all(|v| a.contains(v) == sa.contains(&v)));
        }
    }
}
