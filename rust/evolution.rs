//! Evolutionary search as ask and tell, under upper bounds on any number of measures.
//!
//! One iteration is: [`propose`](Evolution::propose) candidates and [`admit`](Evolution::admit) their measures
//! until the population is complete, [`ask`](Evolution::ask) which members lack a score, and
//! [`tell`](Evolution::tell) those scores. The best become parents; the next population is the parents, their
//! mutants and their children (HAT, arXiv 2005.14187). Candidates that the predictor cannot tell apart are one
//! candidate, and none is scored twice: where a draw finds one again, its score is remembered.

use std::collections::HashMap;

use crate::encoding::Encoding;
use crate::error::{Error, Result, check_finite, expect_size};
use crate::rng::Stream;
use crate::space::Space;

pub use crate::settings::Settings;

/// Where the first population is not complete after `max_draws` draws per place, the bounds are tight: so many
/// times as many draws follow that are close mutants of the candidates which violate the bounds least.
const NEAREST_DRAWS: usize = 4;
/// The share of `mutation_prob` that such a close mutant is drawn with.
const CLOSE: f64 = 0.25;

/// How an open place of the population is filled.
#[derive(Debug, Clone, Copy)]
enum Origin {
    Sample,
    Mutant,
    Child,
}

/// What one iteration did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Iteration {
    /// Candidates scored.
    pub n_evaluations: usize,
    /// Places that went to a candidate already drawn: a parent whose score is remembered, one scored before, or
    /// a member of this population.
    pub n_cache_hits: usize,
    /// The best score so far under this phase's predictor.
    pub best_score: f32,
}

/// One score given to one candidate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// The candidate's number.
    pub candidate: usize,
    /// Its score.
    pub score: f32,
    /// The iteration, from 0.
    pub iteration: usize,
    /// The phase, from 0: each predictor has its own.
    pub phase: usize,
}

/// An evolutionary search that waits for measures and scores.
#[derive(Debug, Clone)]
pub struct Evolution {
    space: Space,
    settings: Settings,
    bounds: Vec<f64>,
    seed: u64,
    encoding: Encoding,
    phase: usize,
    /// All candidates ever drawn, in order: genomes, measures, and scores of this phase.
    genomes: Vec<u8>,
    measures: Vec<f64>,
    scores: Vec<Option<f32>>,
    is_member: Vec<bool>,
    /// Candidates by what the predictor sees of them.
    known: HashMap<Vec<u8>, usize>,
    /// The members so far, parents first and best first among them.
    population: Vec<usize>,
    n_parents: usize,
    /// Places of the population that are not filled yet.
    open: Vec<Origin>,
    /// Drawn, and waiting for measures.
    pending: Vec<(Origin, usize)>,
    n_rounds: usize,
    n_draws: u32,
    /// Places of this population that went to a candidate scored before, or to a member.
    n_found_again: usize,
    history: Vec<Iteration>,
    scored: Vec<Scored>,
}

impl Evolution {
    /// Starts a search in which candidates that `encoding` cannot tell apart are one, with an upper bound
    /// (or infinity) for each measure. The encoding must be as fine as the finest of scores and measures.
    ///
    /// # Errors
    /// When a setting is out of its range or a bound is not positive.
    pub fn new(
        space: Space,
        encoding: Encoding,
        bounds: Vec<f64>,
        settings: Settings,
        seed: u64,
    ) -> Result<Self> {
        settings.check()?;
        if let Some(&value) = bounds.iter().find(|&&bound| bound.is_nan() || bound <= 0.0) {
            return Err(Error::BadSetting { name: "bound", range: "positive", value });
        }
        Ok(Self {
            space,
            settings,
            bounds,
            seed,
            encoding,
            phase: 0,
            genomes: Vec::new(),
            measures: Vec::new(),
            scores: Vec::new(),
            is_member: Vec::new(),
            known: HashMap::new(),
            population: Vec::new(),
            n_parents: 0,
            open: vec![Origin::Sample; settings.n_population],
            pending: Vec::new(),
            n_rounds: 0,
            n_draws: 0,
            n_found_again: 0,
            history: Vec::new(),
            scored: Vec::new(),
        })
    }

    /// The space that is searched.
    #[must_use]
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// The number of measures that a candidate has.
    #[must_use]
    pub fn n_bounds(&self) -> usize {
        self.bounds.len()
    }

    /// Draws candidates whose measures are not known yet: genomes `(n, n_genes)`, to be admitted in this order.
    ///
    /// Empty when the population is complete, or each place has had its draws.
    ///
    /// # Errors
    /// When candidates drawn before still wait for [`Self::admit`].
    pub fn propose(&mut self) -> Result<Vec<u8>> {
        if !self.pending.is_empty() {
            return Err(Error::OutOfTurn { reason: "admit the candidates proposed before" });
        }
        let n_factors = if self.is_first() { 1 + NEAREST_DRAWS } else { 1 };
        let max_rounds = self.settings.max_draws.saturating_mul(n_factors);
        while self.pending.is_empty() && !self.open.is_empty() && self.n_rounds < max_rounds {
            self.n_rounds += 1;
            self.draw_round();
        }
        if self.pending.is_empty() {
            self.open.clear();
        }
        Ok(self.pending.iter().flat_map(|&(_, candidate)| self.genome(candidate).to_vec()).collect())
    }

    /// Takes the measures `(n, n_bounds)` of the candidates just proposed; the feasible ones join the population.
    ///
    /// # Errors
    /// When their number is wrong, or one is not finite. Nothing is admitted then.
    pub fn admit(&mut self, measures: &[f64]) -> Result<()> {
        expect_size("measures", self.pending.len() * self.bounds.len(), measures.len())?;
        check_finite("measure", measures.iter().copied())?;
        self.measures.extend_from_slice(measures);
        for (place, candidate) in std::mem::take(&mut self.pending) {
            self.fill(place, candidate);
        }
        Ok(())
    }

    /// The members that lack a score: genomes `(n, n_genes)`, in the order in which scores are told.
    ///
    /// # Errors
    /// When the population is not complete yet.
    pub fn ask(&self) -> Result<Vec<u8>> {
        Ok(self.unscored()?.iter().flat_map(|&candidate| self.genome(candidate).to_vec()).collect())
    }

    /// Takes the scores of the members that [`Self::ask`] listed, and goes on to the next iteration.
    ///
    /// # Errors
    /// When their number is wrong, or one is not finite. Nothing is changed then.
    pub fn tell(&mut self, scores: &[f32]) -> Result<()> {
        let asked = self.unscored()?;
        expect_size("scores", asked.len(), scores.len())?;
        check_finite("score", scores.iter().copied().map(f64::from))?;
        for (&candidate, &score) in asked.iter().zip(scores) {
            self.scores[candidate] = Some(score);
            self.scored.push(Scored { candidate, score, iteration: self.history.len(), phase: self.phase });
        }
        let n_cache_hits = self.population.len() - asked.len() + self.n_found_again;
        self.select_parents();
        let best_score = self.best().map_or(f32::NEG_INFINITY, |(_, score)| score);
        self.history.push(Iteration { n_evaluations: asked.len(), n_cache_hits, best_score });
        Ok(())
    }

    /// Hands over to another predictor: scores are forgotten, so that the parents are scored again.
    pub fn begin_phase(&mut self, encoding: Encoding) {
        self.phase += 1;
        self.encoding = encoding;
        self.scores.fill(None);
        self.known.clear();
        let members = std::mem::take(&mut self.population);
        for candidate in members.iter().copied().chain(0..self.scores.len()) {
            let key = self.key(self.genome(candidate));
            self.known.entry(key).or_insert(candidate);
        }
        // Of survivors that the new predictor cannot tell apart, the best stays.
        let n_parents = self.n_parents;
        self.n_parents = 0;
        for (index, member) in members.into_iter().enumerate() {
            let stays = self.known.get(&self.key(self.genome(member))) == Some(&member);
            self.is_member[member] = stays;
            if stays {
                self.population.push(member);
                self.n_parents += usize::from(index < n_parents);
            }
        }
    }

    /// Whether the draws for the first population ended without a single feasible candidate.
    #[must_use]
    pub fn is_infeasible(&self) -> bool {
        self.population.is_empty() && self.open.is_empty() && self.pending.is_empty()
    }

    /// The best candidate of this phase and its score, the earliest of equals.
    #[must_use]
    pub fn best(&self) -> Option<(usize, f32)> {
        // Parents persist and come first, the best and earliest of them at the head.
        let &head = self.population.first()?;
        Some((head, self.scores[head]?))
    }

    /// A candidate's genome, `(n_genes,)`.
    #[must_use]
    pub fn genome(&self, candidate: usize) -> &[u8] {
        let width = self.space.n_genes();
        &self.genomes[candidate * width..(candidate + 1) * width]
    }

    /// A candidate's measures, `(n_bounds,)`.
    #[must_use]
    pub fn measures(&self, candidate: usize) -> &[f64] {
        let width = self.bounds.len();
        &self.measures[candidate * width..(candidate + 1) * width]
    }

    /// The smallest value of each measure among all candidates drawn, feasible or not.
    #[must_use]
    pub fn smallest(&self) -> Vec<f64> {
        let mut smallest = vec![f64::INFINITY; self.bounds.len()];
        for measures in self.measures.chunks_exact(self.bounds.len().max(1)) {
            for (least, &value) in smallest.iter_mut().zip(measures) {
                *least = least.min(value);
            }
        }
        smallest
    }

    /// What each iteration did.
    #[must_use]
    pub fn history(&self) -> &[Iteration] {
        &self.history
    }

    /// Every score given, in order.
    #[must_use]
    pub fn scored(&self) -> &[Scored] {
        &self.scored
    }

    /// One draw for each open place.
    fn draw_round(&mut self) {
        let nearest = self.needs_nearest().then(|| self.nearest());
        for place in std::mem::take(&mut self.open) {
            let genome = self.draw(place, nearest.as_deref());
            let key = self.key(&genome);
            if let Some(&candidate) = self.known.get(&key) {
                self.fill(place, candidate);
                continue;
            }
            let candidate = self.scores.len();
            self.genomes.extend_from_slice(&genome);
            self.scores.push(None);
            self.is_member.push(false);
            self.known.insert(key, candidate);
            self.pending.push((place, candidate));
        }
    }

    /// Puts a candidate into a place, which stays open if the candidate is infeasible.
    ///
    /// A candidate that was scored before, or is a member already, takes the place without being listed again;
    /// not in the first population, which is drawn until it is complete.
    fn fill(&mut self, place: Origin, candidate: usize) {
        let is_measured = candidate < self.n_measured();
        if is_measured && self.violation(candidate) > 0.0 {
            self.open.push(place);
        } else if is_measured && self.scores[candidate].is_none() && !self.is_member[candidate] {
            self.population.push(candidate);
            self.is_member[candidate] = true;
        } else if self.is_first() {
            self.open.push(place);
        } else {
            self.n_found_again += 1;
        }
    }

    fn draw(&mut self, origin: Origin, nearest: Option<&[usize]>) -> Vec<u8> {
        let mut stream = Stream::new(self.seed, self.generation(), self.n_draws);
        self.n_draws = self.n_draws.wrapping_add(1);
        match (origin, nearest) {
            (Origin::Sample, None) => self.space.sample(&mut stream),
            (Origin::Sample, Some(nearest)) => {
                let parent = nearest[stream.below(nearest.len())];
                self.space.mutate(self.genome(parent), self.settings.mutation_prob * CLOSE, &mut stream)
            }
            (Origin::Child, _) if self.n_parents > 1 => {
                let first = stream.below(self.n_parents);
                let second = (first + 1 + stream.below(self.n_parents - 1)) % self.n_parents;
                let [first, second] = [first, second].map(|parent| self.genome(self.population[parent]));
                self.space.cross(first, second, &mut stream)
            }
            (Origin::Mutant | Origin::Child, _) => {
                let parent = self.population[stream.below(self.n_parents)];
                self.space.mutate(self.genome(parent), self.settings.mutation_prob, &mut stream)
            }
        }
    }

    fn is_first(&self) -> bool {
        self.history.is_empty()
    }

    fn needs_nearest(&self) -> bool {
        self.is_first() && self.n_rounds > self.settings.max_draws && self.n_measured() > 0
    }

    /// The candidates that violate the bounds least, as many as there are parents.
    fn nearest(&self) -> Vec<usize> {
        let mut candidates: Vec<(f64, usize)> =
            (0..self.n_measured()).map(|candidate| (self.violation(candidate), candidate)).collect();
        candidates.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        candidates.into_iter().take(self.settings.n_parents).map(|(_, candidate)| candidate).collect()
    }

    /// The sum of the shares by which bounds are exceeded; 0 for a feasible candidate.
    fn violation(&self, candidate: usize) -> f64 {
        let measures = self.measures(candidate).iter().zip(&self.bounds);
        measures.map(|(&measure, &bound)| if measure > bound { measure / bound - 1.0 } else { 0.0 }).sum()
    }

    fn unscored(&self) -> Result<Vec<usize>> {
        if !self.open.is_empty() || !self.pending.is_empty() {
            return Err(Error::OutOfTurn {
                reason: "propose until nothing is proposed, before asking or telling",
            });
        }
        Ok(self.population.iter().copied().filter(|&member| self.scores[member].is_none()).collect())
    }

    /// Keeps the best members as parents and opens the places of the next population.
    fn select_parents(&mut self) {
        let scores = &self.scores;
        let score = |member: usize| scores[member].unwrap_or(f32::NEG_INFINITY);
        self.population.sort_by(|&a, &b| score(b).total_cmp(&score(a)).then(a.cmp(&b)));
        self.n_parents = self.population.len().min(self.settings.n_parents);
        for member in self.population.drain(self.n_parents..) {
            self.is_member[member] = false;
        }
        if !self.population.is_empty() {
            self.open.resize(self.settings.n_mutants, Origin::Mutant);
            self.open.resize(self.settings.n_mutants + self.settings.n_children, Origin::Child);
        }
        self.n_rounds = 0;
        self.n_draws = 0;
        self.n_found_again = 0;
    }

    fn key(&self, genome: &[u8]) -> Vec<u8> {
        match self.encoding {
            Encoding::PerLayer => genome.to_vec(),
            Encoding::Averaged => {
                let features = self.encoding.features(&self.space, genome);
                features.into_iter().flat_map(f32::to_le_bytes).collect()
            }
        }
    }

    fn n_measured(&self) -> usize {
        self.scores.len() - self.pending.len()
    }

    fn generation(&self) -> u32 {
        u32::try_from(self.history.len()).unwrap_or(u32::MAX)
    }
}
