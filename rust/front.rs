//! Pareto fronts: what nothing else beats in score and in every measure.

#![expect(clippy::float_cmp, reason = "equal points are equal to the bit")]

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// A point of a front of score against one measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Step {
    pub measure: f64,
    pub score: f64,
    pub index: usize,
}

/// The front of score against one measure, as points arrive: scores rise with the measure.
#[derive(Debug, Clone, Default)]
pub(crate) struct Staircase(BTreeMap<Ordered, Step>);

impl Staircase {
    /// The best score at or below a measure.
    pub fn score_at(&self, measure: f64) -> f64 {
        self.below(measure).map_or(f64::NEG_INFINITY, |step| step.score)
    }

    /// Takes a point in, and drops what it beats. Of equal points the one of the smallest index stays.
    pub fn insert(&mut self, point: Step) {
        if let Some(below) = self.below(point.measure) {
            let is_equal = below.score == point.score && below.measure == point.measure;
            if below.score > point.score
                || (below.score == point.score && below.measure < point.measure)
                || (is_equal && below.index <= point.index)
            {
                return;
            }
        }
        while let Some(beaten) = self.above(point.measure, point.score) {
            self.0.remove(&Ordered(beaten));
        }
        self.0.insert(Ordered(point.measure), point);
    }

    /// The points, from the smallest measure to the largest.
    pub fn into_steps(self) -> Vec<Step> {
        self.0.into_values().collect()
    }

    /// The last step at or below a measure.
    fn below(&self, measure: f64) -> Option<&Step> {
        self.0.range(..=Ordered(measure)).next_back().map(|(_, step)| step)
    }

    /// The first step at or above a measure, if it scores no more.
    fn above(&self, measure: f64, score: f64) -> Option<f64> {
        let (_, step) = self.0.range(Ordered(measure)..).next()?;
        (step.score <= score).then_some(step.measure)
    }
}

/// A number in its total order.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ordered(f64);

impl Eq for Ordered {}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A point of a front of score against two measures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    pub score: f64,
    pub measures: [f64; 2],
    pub index: usize,
}

/// Keeps the points that nothing beats, best score first. Of equal points the one of the smallest index stays.
pub(crate) fn nondominated(mut points: Vec<Point>) -> Vec<Point> {
    points.sort_unstable_by(|a, b| {
        let by_measure = |m: usize| a.measures[m].total_cmp(&b.measures[m]);
        let by_score = b.score.total_cmp(&a.score);
        by_score.then_with(|| by_measure(0)).then_with(|| by_measure(1)).then(a.index.cmp(&b.index))
    });
    // What came before scores no less, so a point stays if it is smaller in the second measure than all of those
    // that are no larger in the first: a front of its own, in which smaller is better.
    let mut smallest = Staircase::default();
    points.retain(|point| {
        let [measure, other] = point.measures;
        let is_beaten = smallest.score_at(measure) >= -other;
        if !is_beaten {
            smallest.insert(Step { measure, score: -other, index: point.index });
        }
        !is_beaten
    });
    points
}
