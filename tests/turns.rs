//! Ask and tell: calls out of turn and wrong answers are refused, and leave the search as it was.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod networks;
mod searches;
mod spaces;

use llmpp_core::encoding::Encoding;
use llmpp_core::error::Error;
use llmpp_core::evolution::{Evolution, Settings};
use searches::{Problem, assert_lawful, complete, small, trace};
use spaces::{tiny, wmt};

const FREE: [f64; 2] = [f64::INFINITY; 2];

fn problem() -> Problem {
    Problem::new(wmt(), Encoding::Averaged, 1)
}

fn is_out_of_turn<T: std::fmt::Debug>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::OutOfTurn { .. }))
}

fn ready(problem: &Problem) -> Evolution {
    let mut evolution = problem.start(&FREE, small(), 1);
    complete(&mut evolution, |genomes| problem.measure(genomes)).unwrap();
    evolution
}

fn refused(settings: Settings) -> Error {
    Evolution::new(tiny(), Encoding::Averaged, vec![], settings, 0).unwrap_err()
}

#[test]
fn settings_outside_their_ranges_are_refused_by_name() {
    let zero = |name| Error::BadSetting { name, range: "at least 1", value: 0.0 };
    assert_eq!(refused(Settings { n_population: 0, ..small() }), zero("n_population"));
    assert_eq!(refused(Settings { n_parents: 0, ..small() }), zero("n_parents"));
    assert_eq!(refused(Settings { max_draws: 0, ..small() }), zero("max_draws"));
    for mutation_prob in [-0.1, 1.3, f64::NAN, f64::INFINITY] {
        let message = refused(Settings { mutation_prob, ..small() }).to_string();
        assert_eq!(message, format!("`mutation_prob` must be in [0, 1], got {mutation_prob}"));
    }
}

#[test]
fn populations_beyond_memory_are_refused_by_name() {
    let beyond = (1 << 24) + 1;
    let message = |name| format!("`{name}` must be at most 2^24, got 16777217");
    let error = |settings| refused(settings).to_string();
    assert_eq!(error(Settings { n_population: beyond, ..small() }), message("n_population"));
    assert_eq!(error(Settings { n_mutants: beyond, ..small() }), message("n_mutants"));
    assert_eq!(error(Settings { n_children: beyond, ..small() }), message("n_children"));
}

#[test]
fn bounds_that_are_not_positive_are_refused() {
    for bound in [0.0, -0.0, -1.0, f64::NAN, f64::NEG_INFINITY] {
        let result = Evolution::new(tiny(), Encoding::Averaged, vec![1.0, bound], small(), 0);
        assert_eq!(result.unwrap_err().to_string(), format!("`bound` must be positive, got {bound}"));
    }
}

#[test]
fn the_default_settings_are_hats() {
    let Settings { n_population, n_parents, n_mutants, n_children, mutation_prob, .. } = Settings::default();
    assert_eq!((n_population, n_parents, n_mutants, n_children), (125, 25, 50, 50));
    assert!((mutation_prob - 0.3).abs() < f64::EPSILON);
}

#[test]
fn nothing_is_asked_or_told_before_the_population_is_complete() {
    let problem = problem();
    let mut evolution = problem.start(&FREE, small(), 1);
    assert!(is_out_of_turn(&evolution.ask()) && is_out_of_turn(&evolution.tell(&[])));
    let proposed = evolution.propose().unwrap();
    assert!(is_out_of_turn(&evolution.ask()) && is_out_of_turn(&evolution.tell(&[])));
    evolution.admit(&problem.measure(&proposed)).unwrap();
    complete(&mut evolution, |genomes| problem.measure(genomes)).unwrap();
    assert_eq!(evolution.ask().unwrap().len(), 30 * problem.space.n_genes());
}

#[test]
fn nothing_is_proposed_before_the_last_candidates_are_admitted() {
    let mut evolution = problem().start(&FREE, small(), 1);
    evolution.propose().unwrap();
    assert!(is_out_of_turn(&evolution.propose()));
}

#[test]
fn a_wrong_number_of_measures_is_refused() {
    let problem = problem();
    let mut evolution = problem.start(&FREE, small(), 1);
    assert!(matches!(evolution.admit(&[1.0]), Err(Error::Shape { expected: 0, got: 1, .. })));
    let n_measures = problem.measure(&evolution.propose().unwrap()).len();
    for got in [0, n_measures / 2, n_measures - 1, n_measures + 2] {
        let result = evolution.admit(&vec![1.0; got]);
        assert!(matches!(result, Err(Error::Shape { expected, .. }) if expected == n_measures), "{result:?}");
    }
}

#[test]
fn a_wrong_number_of_scores_is_refused() {
    let mut evolution = ready(&problem());
    for got in [0, 29, 31] {
        let result = evolution.tell(&vec![0.0; got]);
        let expected = Error::Shape { what: "scores", expected: 30, got };
        assert_eq!(result, Err(expected));
    }
}

#[test]
fn a_measure_or_score_that_is_not_finite_is_refused_with_its_position() {
    let problem = problem();
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut evolution = problem.start(&FREE, small(), 1);
        let mut measures = problem.measure(&evolution.propose().unwrap());
        measures[7] = value;
        let message = evolution.admit(&measures).unwrap_err().to_string();
        assert_eq!(message, format!("measure 7 is {value}, but must be a finite number"));
        let mut evolution = ready(&problem);
        let mut scores = problem.score(&evolution.ask().unwrap());
        #[allow(clippy::cast_possible_truncation, reason = "not a finite number anyway")]
        let score = value as f32;
        scores[5] = score;
        let message = evolution.tell(&scores).unwrap_err().to_string();
        assert_eq!(message, format!("score 5 is {value}, but must be a finite number"));
    }
}

/// Tries everything that is wrong at this moment.
fn disturb(evolution: &mut Evolution) {
    let is_waiting = evolution.propose().is_err();
    assert!(is_waiting, "candidates are pending");
    assert!(evolution.admit(&[]).is_err() && evolution.admit(&[f64::NAN; 3]).is_err());
    assert!(evolution.ask().is_err() && evolution.tell(&[]).is_err());
}

#[test]
fn errors_leave_the_search_as_it_was() {
    let problem = problem();
    let bounds = [100.0, f64::INFINITY];
    let mut calm = problem.start(&bounds, small(), 3);
    problem.advance(&mut calm, 4);
    let mut disturbed = problem.start(&bounds, small(), 3);
    for _ in 0..4 {
        loop {
            let genomes = disturbed.propose().unwrap();
            if genomes.is_empty() {
                break;
            }
            disturb(&mut disturbed);
            let mut measures = problem.measure(&genomes);
            let last = measures.pop().unwrap();
            assert!(disturbed.admit(&[&measures[..], &[f64::NAN]].concat()).is_err());
            measures.push(last);
            disturbed.admit(&measures).unwrap();
        }
        let asked = disturbed.ask().unwrap();
        let mut scores = problem.score(&asked);
        assert!(disturbed.tell(&scores[1..]).is_err());
        let first = std::mem::replace(&mut scores[0], f32::NAN);
        assert!(disturbed.tell(&scores).is_err());
        scores[0] = first;
        assert_eq!(disturbed.ask().unwrap(), asked, "asking again gives the same");
        disturbed.tell(&scores).unwrap();
    }
    assert_eq!(trace(&disturbed), trace(&calm));
    assert_eq!(disturbed.history(), calm.history());
}

#[test]
fn proposing_again_after_the_last_candidates_changes_nothing() {
    let mut evolution = ready(&problem());
    let asked = evolution.ask().unwrap();
    assert_eq!(evolution.propose(), Ok(vec![]));
    assert_eq!(evolution.admit(&[]), Ok(()));
    assert_eq!(evolution.ask().unwrap(), asked);
}

#[test]
fn a_new_phase_forgets_scores_and_asks_the_survivors_again() {
    for encoding in [Encoding::Averaged, Encoding::PerLayer] {
        let problem = problem();
        let mut evolution = problem.start(&FREE, small(), 4);
        problem.advance(&mut evolution, 3);
        let mut first = trace(&evolution);
        first.sort_by(|a, b| b.2.score.total_cmp(&a.2.score).then(a.2.candidate.cmp(&b.2.candidate)));
        let survivors: Vec<u8> = first.iter().take(8).flat_map(|(genome, ..)| genome.clone()).collect();
        evolution.begin_phase(encoding);
        assert_eq!(evolution.best(), None);
        complete(&mut evolution, |genomes| problem.measure(genomes)).unwrap();
        assert_eq!(evolution.ask().unwrap()[..survivors.len()], survivors);
        let other = Problem::new(wmt(), encoding, 99);
        other.advance(&mut evolution, 1);
        assert!(evolution.scored().iter().any(|scored| (scored.phase, scored.iteration) == (1, 3)));
        assert_eq!((evolution.history()[3].n_cache_hits, evolution.history().len()), (0, 4));
        assert_lawful(&evolution, &[Encoding::Averaged, encoding], &FREE);
    }
}

#[test]
fn survivors_that_a_coarser_predictor_cannot_tell_apart_are_asked_once() {
    let fine = Problem::new(tiny(), Encoding::PerLayer, 5);
    let coarse = Problem::new(tiny(), Encoding::Averaged, 6);
    for seed in 0..20 {
        let mut evolution = fine.start(&FREE, small(), seed);
        fine.advance(&mut evolution, 5);
        evolution.begin_phase(Encoding::Averaged);
        coarse.advance(&mut evolution, 5);
        assert_lawful(&evolution, &[Encoding::PerLayer, Encoding::Averaged], &FREE);
    }
}

#[test]
fn a_second_phase_finds_the_optimum_of_its_own_predictor() {
    let (first, second) =
        (Problem::new(tiny(), Encoding::PerLayer, 5), Problem::new(tiny(), Encoding::PerLayer, 6));
    let bounds = first.bounds([0.7, 0.7]);
    let mut evolution = first.start(&bounds, small(), 5);
    first.advance(&mut evolution, 10);
    evolution.begin_phase(Encoding::PerLayer);
    let score = |genomes: &[u8]| second.score(genomes);
    for _ in 0..30 {
        searches::iterate(&mut evolution, |genomes| first.measure(genomes), score).unwrap();
    }
    let genomes = spaces::all_genomes(&first.space);
    let (scores, measures) = (second.score(&genomes), first.measure(&genomes));
    let feasible = scores.iter().zip(measures.chunks(2)).filter(|(_, m)| searches::is_feasible(m, &bounds));
    let optimum = feasible.map(|(&score, _)| score).max_by(f32::total_cmp);
    assert_eq!(evolution.best().map(|(_, score)| score), optimum);
    assert_lawful(&evolution, &[Encoding::PerLayer; 2], &bounds);
}
