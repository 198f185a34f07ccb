//! What trainings leave behind: a line an epoch, and a line a fold.

use serde::{Deserialize, Serialize};

/// A line of `metrics.jsonl`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Counted from 1.
    pub epoch: u64,
    pub steps: u64,
    /// The mean loss of its steps, with dropout.
    pub train_loss: f64,
    /// On the sentences that are held out, if there are some.
    pub dev_loss: Option<f64>,
    pub dev_accuracy: Option<f64>,
    pub test_accuracy: Option<f64>,
    /// Time of training so far, over all runs; evaluations don't count.
    pub seconds: f64,
}

/// The epoch that is best on the sentences held out: of equals the last, as in Kim's code, and the last too where none are held out.
pub fn best(epochs: &[Epoch]) -> Option<&Epoch> {
    let accuracy = |epoch: &Epoch| epoch.dev_accuracy.unwrap_or_default();
    epochs.iter().max_by(|a, b| accuracy(a).total_cmp(&accuracy(b)).then(a.epoch.cmp(&b.epoch)))
}

/// Such as `, dev 76.50 %`; nothing where nothing is known.
pub fn percent(name: &str, share: Option<f64>) -> String {
    share.map_or(String::new(), |share| format!(", {name} {:.2} %", share * 100.0))
}

/// A line of `folds.jsonl`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Fold {
    /// Counted from 1.
    pub fold: usize,
    /// That of the epoch that is best on the sentences held out.
    pub test_accuracy: f64,
    pub dev_accuracy: f64,
    /// The best epoch, and how many there were.
    pub epoch: u64,
    pub epochs: u64,
    pub seconds: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_epoch_is_the_last_of_equals() {
        let epoch = |epoch, dev_accuracy: Option<f64>| Epoch {
            epoch,
            steps: epoch,
            train_loss: 0.0,
            dev_loss: None,
            dev_accuracy,
            test_accuracy: None,
            seconds: 0.0,
        };
        let epochs = [epoch(1, Some(0.5)), epoch(2, Some(0.7)), epoch(3, Some(0.7)), epoch(4, Some(0.6))];
        assert_eq!(best(&epochs).map(|best| best.epoch), Some(3));
        assert_eq!(best(&[epoch(1, None), epoch(2, None)]).map(|best| best.epoch), Some(2));
        assert_eq!(best(&[]), None);
    }
}
