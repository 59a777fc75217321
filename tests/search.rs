//! The closed loop: the same result by hand, on any number of threads, and in pieces.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::cast_precision_loss, reason = "counts below 2^53")]

mod networks;
mod searches;
mod spaces;

use llmpp_core::cost::CostModel;
use llmpp_core::encoding::Encoding;
use llmpp_core::error::Error;
use llmpp_core::evolution::{Evolution, Settings};
use llmpp_core::mlp::Mlp;
use llmpp_core::search::{Meter, Scorer, run};
use llmpp_core::space::Space;
use networks::{degree_two, normalized};
use searches::{assert_lawful, complete, iterate, small, trace};
use spaces::{samples, tiny, wmt};

/// All that a closed loop needs.
struct Models {
    space: Space,
    predictor: Mlp,
    latency: Mlp,
    cost: CostModel,
}

impl Models {
    fn new(space: Space) -> Self {
        let n_features = Encoding::Averaged.n_features(&space);
        let predictor = Mlp::new(normalized(&[n_features, 32, 1], 1));
        let latency = Mlp::new(degree_two(n_features, &[], 2));
        let cost = CostModel::new(&space, 512, 30, 32_768).unwrap();
        Self { space, predictor, latency, cost }
    }

    fn scorer(&self) -> Scorer<'_> {
        Scorer::new(&self.predictor, Encoding::Averaged, &self.space).unwrap()
    }

    fn meter(&self) -> Meter<'_> {
        let latency = Scorer::new(&self.latency, Encoding::Averaged, &self.space).unwrap();
        Meter { latency: Some(latency), cost: &self.cost }
    }

    /// The median latency, no bound on FLOPs, and the upper quartile of parameters.
    fn bounds(&self) -> Vec<f64> {
        let measures = self.meter().measure(&self.space, &samples(&self.space, 400, 0).concat(), 1).unwrap();
        let quantile = |column, position: usize| {
            let mut sorted: Vec<f64> = measures.iter().copied().skip(column).step_by(3).collect();
            sorted.sort_by(f64::total_cmp);
            sorted[position]
        };
        vec![quantile(0, 200), f64::INFINITY, quantile(2, 300)]
    }

    fn start(&self, settings: Settings) -> Evolution {
        Evolution::new(self.space.clone(), Encoding::Averaged, self.bounds(), settings, 7).unwrap()
    }

    fn run(&self, evolution: &mut Evolution, n_iterations: usize, n_threads: usize) {
        run(evolution, &self.scorer(), &self.meter(), n_iterations, n_threads).unwrap();
    }
}

#[test]
fn the_result_is_the_same_on_any_number_of_threads() {
    let models = Models::new(wmt());
    let settings = Settings { n_population: 400, n_mutants: 200, n_children: 200, ..Settings::default() };
    let on_threads = |n_threads| {
        let mut evolution = models.start(settings);
        models.run(&mut evolution, 5, n_threads);
        (trace(&evolution), evolution.history().to_vec())
    };
    let alone = on_threads(1);
    assert!(alone.0.len() > 1000, "enough for more than one thread");
    assert!(on_threads(2) == alone && on_threads(3) == alone);
}

#[test]
fn running_is_asking_and_telling() {
    let models = Models::new(wmt());
    let mut closed = models.start(Settings::default());
    models.run(&mut closed, 6, 2);
    let mut by_hand = models.start(Settings::default());
    let features = |genomes: &[u8]| Encoding::Averaged.features(&models.space, genomes);
    let measure = |genome: &[u8]| {
        let latency = models.latency.forward(&features(genome), 1).unwrap()[0];
        let cost = models.cost.cost(&models.space, genome);
        [f64::from(latency), cost.flops as f64 / 1e9, cost.params as f64 / 1e6]
    };
    let width = models.space.n_genes();
    for _ in 0..6 {
        let measures = |genomes: &[u8]| genomes.chunks(width).flat_map(measure).collect();
        let scores = |genomes: &[u8]| models.predictor.forward(&features(genomes), 1).unwrap();
        iterate(&mut by_hand, measures, scores).unwrap();
    }
    assert_eq!(trace(&closed), trace(&by_hand));
    assert_eq!(closed.history(), by_hand.history());
    assert_lawful(&closed, &[Encoding::Averaged], &models.bounds());
}

#[test]
fn running_in_pieces_is_running_at_once() {
    let models = Models::new(wmt());
    let (mut at_once, mut in_pieces) = (models.start(small()), models.start(small()));
    models.run(&mut at_once, 6, 1);
    for n_iterations in [1, 0, 2, 3] {
        models.run(&mut in_pieces, n_iterations, 1);
    }
    assert_eq!(trace(&at_once), trace(&in_pieces));
}

#[test]
fn the_optimum_of_a_tiny_space_is_found_under_all_bounds() {
    let models = Models::new(tiny());
    let mut evolution = models.start(small());
    models.run(&mut evolution, 40, 1);
    let (genomes, bounds) = (spaces::all_genomes(&models.space), models.bounds());
    let scores = models.scorer().score(&models.space, &genomes, 1).unwrap();
    let measures = models.meter().measure(&models.space, &genomes, 1).unwrap();
    let feasible = scores.iter().zip(measures.chunks(3)).filter(|(_, m)| searches::is_feasible(m, &bounds));
    let optimum = feasible.map(|(&score, _)| score).max_by(f32::total_cmp);
    assert!(optimum.is_some() && evolution.best().map(|(_, score)| score) == optimum);
}

#[test]
fn measures_are_latency_gflops_and_millions_of_parameters() {
    let models = Models::new(wmt());
    let genome = samples(&models.space, 1, 3).remove(0);
    let cost = models.cost.cost(&models.space, &genome);
    let costs = [cost.flops as f64 / 1e9, cost.params as f64 / 1e6];
    let without = Meter { latency: None, cost: &models.cost };
    assert_eq!(without.measure(&models.space, &genome, 1).unwrap(), costs);
    let measures = models.meter().measure(&models.space, &genome, 1).unwrap();
    let features = Encoding::Averaged.features(&models.space, &genome);
    let latency = f64::from(models.latency.forward(&features, 1).unwrap()[0]);
    assert_eq!(measures[..1], [latency]);
    assert_eq!(measures[1..], costs);
    assert_eq!(models.meter().measure(&models.space, &[], 1), Ok(vec![]));
}

#[test]
fn an_mlp_that_reads_another_encoding_is_refused() {
    let models = Models::new(wmt());
    let error = Scorer::new(&models.predictor, Encoding::PerLayer, &models.space).unwrap_err();
    assert_eq!(error, Error::Shape { what: "features of the encoding", expected: 10, got: 40 });
}

#[test]
fn bounds_that_are_not_those_of_the_meter_are_refused() {
    let models = Models::new(wmt());
    for n_bounds in [0, 1, 2, 4] {
        let bounds = vec![1e9; n_bounds];
        let mut evolution = Evolution::new(wmt(), Encoding::Averaged, bounds, small(), 0).unwrap();
        let result = run(&mut evolution, &models.scorer(), &models.meter(), 1, 1);
        assert!(
            matches!(result, Err(Error::Shape { what: "measures", .. })),
            "{n_bounds} bounds: {result:?}"
        );
    }
}

#[test]
fn bounds_that_nothing_meets_end_the_run_without_an_error() {
    let models = Models::new(wmt());
    let bounds = vec![f64::INFINITY, 0.1, f64::INFINITY];
    let mut evolution = Evolution::new(wmt(), Encoding::Averaged, bounds, small(), 0).unwrap();
    models.run(&mut evolution, 10, 1);
    assert!(evolution.is_infeasible());
    assert_eq!((evolution.best(), evolution.history().len()), (None, 0));
    let smallest = evolution.smallest();
    assert!(smallest[1] > 0.1 && smallest.iter().all(|least| least.is_finite()), "{smallest:?}");
}

#[test]
fn a_score_beyond_float32_ends_the_run_with_an_error() {
    let models = Models::new(wmt());
    let mut weights = normalized(&[10, 1], 3);
    weights.layers[0].weight.fill(f32::MAX);
    weights.input_mean.fill(-100.0);
    let endless = Mlp::new(weights);
    let scorer = Scorer::new(&endless, Encoding::Averaged, &models.space).unwrap();
    let mut evolution = models.start(small());
    let result = run(&mut evolution, &scorer, &models.meter(), 1, 1);
    assert!(matches!(result, Err(Error::NotFinite { what: "score", .. })), "{result:?}");
    models.run(&mut evolution, 2, 1);
    assert_eq!(evolution.history().len(), 2, "the search goes on with a predictor that is sound");
}

#[test]
fn a_run_takes_over_a_search_that_waits_for_scores() {
    let models = Models::new(wmt());
    let (mut begun, mut whole) = (models.start(small()), models.start(small()));
    let measure = |genomes: &[u8]| models.meter().measure(&models.space, genomes, 1).unwrap();
    complete(&mut begun, measure).unwrap();
    models.run(&mut begun, 2, 1);
    models.run(&mut whole, 2, 1);
    assert_eq!(trace(&begun), trace(&whole));
}
