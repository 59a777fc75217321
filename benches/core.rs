//! Speed of the core, to be read as shares: FLOPs per second of inference beside this process's own peak.
//!
//! `thrpt` of the groups `forward` and `peak` is in FLOPs per second (`Gelem/s` reads GFLOP/s), that of
//! `genomes` in genomes per second.

#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![allow(unsafe_code, reason = "the peak is measured with the instructions that the kernels use")]
#![allow(clippy::unwrap_used, reason = "a benchmark stops by panicking")]
#![allow(clippy::cast_precision_loss, reason = "small counts")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use llmpp_core::cost::CostModel;
use llmpp_core::encoding::Encoding;
use llmpp_core::evolution::{Evolution, Settings};
use llmpp_core::kernel::Kernel;
use llmpp_core::mlp::Mlp;
use llmpp_core::rng::Stream;
use llmpp_core::search::{Meter, Scorer, run};
use llmpp_core::space::{Description, Space};
use llmpp_core::weights::{Layer, Weights};

/// LLM-Distill-PP as published, and a student as good.
const NETWORKS: [(&str, &[usize], &[usize]); 2] =
    [("paper", &[10, 400, 400, 400, 400, 1], &[1, 16, 128]), ("student", &[10, 32, 1], &[128, 4096])];

const N_GENOMES: u32 = 10_000;

fn wmt() -> Space {
    let hyperparameters: [(&str, &[u32], Option<&str>); 10] = [
        ("encoder_dim", &[512, 640], None),
        ("encoder_layers", &[6], None),
        ("encoder_ffn", &[1024, 2048, 3072], Some("encoder_layers")),
        ("encoder_heads", &[4, 8], Some("encoder_layers")),
        ("decoder_dim", &[512, 640], None),
        ("decoder_layers", &[1, 2, 3, 4, 5, 6], None),
        ("decoder_ffn", &[1024, 2048, 3072], Some("decoder_layers")),
        ("decoder_heads", &[4, 8], Some("decoder_layers")),
        ("cross_heads", &[4, 8], Some("decoder_layers")),
        ("cross_span", &[1, 2, 3], Some("decoder_layers")),
    ];
    let describe = |(name, options, depth): (&str, &[u32], Option<&str>)| Description {
        name: name.to_owned(),
        options: options.to_vec(),
        depth: depth.map(str::to_owned),
    };
    Space::new(&hyperparameters.map(describe)).unwrap()
}

fn uniforms(n: usize, scale: f32, stream: &mut Stream) -> Vec<f32> {
    (0..n).map(|_| (stream.below(2001) as f32 / 1000.0 - 1.0) * scale).collect()
}

/// Random weights for `n_features` features, or for all their products with each other and 1.
fn weights(widths: &[usize], products: Option<Vec<[usize; 2]>>) -> Weights {
    let mut stream = Stream::new(0, 0, 0);
    let layers = widths.windows(2).map(|pair| Layer {
        weight: uniforms(pair[0] * pair[1], (3.0 / pair[0] as f32).sqrt(), &mut stream),
        bias: uniforms(pair[1], 0.1, &mut stream),
    });
    let layers = layers.collect();
    let (input_mean, input_std) = (vec![0.5; widths[0]], vec![0.5; widths[0]]);
    Weights { n_features: 10, products, input_mean, input_std, layers, output_mean: 100.0, output_std: 10.0 }
}

/// Multiply-adds of one row, counted as two.
fn flops(widths: &[usize]) -> usize {
    widths.windows(2).map(|pair| 2 * pair[0] * pair[1]).sum()
}

fn bench_forward(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("forward");
    for (name, widths, batches) in NETWORKS {
        for kernel in Kernel::available() {
            let mlp = Mlp::with_kernel(weights(widths, None), kernel);
            for &n_rows in batches {
                let features = uniforms(n_rows * 10, 1.0, &mut Stream::new(1, 0, 0));
                group.throughput(Throughput::Elements((n_rows * flops(widths)) as u64));
                let id = BenchmarkId::new(format!("{name}/{}", kernel.name()), n_rows);
                group.bench_with_input(id, &features, |b, features| b.iter(|| mlp.forward(features, 1)));
            }
        }
    }
    group.finish();
}

/// Independent chains: enough to cover the latency of two units.
const N_CHAINS: usize = 12;
const N_STEPS: usize = 4096;

/// Defines a function that runs the chains on registers of one instruction set.
#[cfg(target_arch = "x86_64")]
macro_rules! chains {
    ($name:ident, $features:literal, $lanes:literal, $splat:ident, $store:ident, $step:expr) => {
        #[target_feature(enable = $features)]
        fn $name(factor: f32, term: f32) -> f32 {
            let (factor, term) = ($splat(factor), $splat(term));
            let mut sums = [$splat(1.0); N_CHAINS];
            for _ in 0..N_STEPS {
                sums = sums.map(|sum| $step(sum, factor, term));
            }
            let mut out = [[0.0; $lanes]; N_CHAINS];
            for (out, sum) in out.iter_mut().zip(sums) {
                // SAFETY: the array has as many floats as the register.
                unsafe { $store(out.as_mut_ptr(), sum) };
            }
            out.iter().flatten().sum()
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod chains {
    use std::arch::x86_64::{
        _mm_add_ps, _mm_mul_ps, _mm_set1_ps, _mm_storeu_ps, _mm256_fmadd_ps, _mm256_set1_ps,
        _mm256_storeu_ps, _mm512_fmadd_ps, _mm512_set1_ps, _mm512_storeu_ps,
    };

    use super::{N_CHAINS, N_STEPS};

    chains!(plain, "sse2", 4, _mm_set1_ps, _mm_storeu_ps, |x, a, b| _mm_add_ps(_mm_mul_ps(x, a), b));
    chains!(avx2, "avx2,fma", 8, _mm256_set1_ps, _mm256_storeu_ps, _mm256_fmadd_ps);
    chains!(avx512, "avx512f,avx2,fma", 16, _mm512_set1_ps, _mm512_storeu_ps, _mm512_fmadd_ps);

    /// The chains of a kernel's instruction set, and how many lanes each has.
    pub fn peak_of(kernel: &str) -> (usize, fn(f32, f32) -> f32) {
        match kernel {
            // SAFETY: an available kernel of this name means that AVX2 and FMA were detected.
            "avx2" => (8, |factor, term| unsafe { avx2(factor, term) }),
            // SAFETY: an available kernel of this name means that AVX-512F, AVX2 and FMA were detected.
            "avx512" => (16, |factor, term| unsafe { avx512(factor, term) }),
            // SAFETY: every x86-64 processor has SSE2.
            _ => (4, |factor, term| unsafe { plain(factor, term) }),
        }
    }
}

/// Elsewhere than on x86-64, the compiler's vectors of a fused multiply-add.
#[cfg(not(target_arch = "x86_64"))]
mod chains {
    use super::{N_CHAINS, N_STEPS};

    pub fn peak_of(_: &str) -> (usize, fn(f32, f32) -> f32) {
        (4, |factor, term| {
            let mut sums = [[1.0f32; 4]; N_CHAINS];
            for _ in 0..N_STEPS {
                sums = sums.map(|lanes| lanes.map(|lane| lane.mul_add(factor, term)));
            }
            sums.iter().flatten().sum()
        })
    }
}

fn bench_peak(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("peak");
    for kernel in Kernel::available() {
        let (lanes, peak) = chains::peak_of(kernel.name());
        group.throughput(Throughput::Elements((2 * N_CHAINS * N_STEPS * lanes) as u64));
        group.bench_function(kernel.name(), |b| b.iter(|| peak(black_box(0.5), black_box(0.5))));
    }
    group.finish();
}

fn bench_genomes(criterion: &mut Criterion) {
    let space = wmt();
    let genomes: Vec<u8> =
        (0..N_GENOMES).flat_map(|index| space.sample(&mut Stream::new(0, 0, index))).collect();
    let model = CostModel::new(&space, 512, 30, 32_768).unwrap();
    let mut group = criterion.benchmark_group("genomes");
    group.throughput(Throughput::Elements(u64::from(N_GENOMES)));
    for (name, encoding) in [("averaged", Encoding::Averaged), ("per-layer", Encoding::PerLayer)] {
        group.bench_function(name, |b| b.iter(|| encoding.features(&space, black_box(&genomes))));
    }
    let total = |genomes: &[u8]| -> u64 {
        genomes.chunks(space.n_genes()).map(|genome| model.cost(&space, genome).flops).sum()
    };
    group.bench_function("cost", |b| b.iter(|| total(black_box(&genomes))));
    group.finish();
}

/// HAT's 30 iterations under a latency bound, with a student as predictor and a quadratic latency model.
fn bench_evolution(criterion: &mut Criterion) {
    let space = wmt();
    let pairs: Vec<[usize; 2]> = (0..=10).flat_map(|a| (a..=10).map(move |b| [a, b])).collect();
    let predictor = Mlp::new(weights(&[10, 32, 1], None));
    let latency = Mlp::new(weights(&[pairs.len(), 1], Some(pairs)));
    let cost = CostModel::new(&space, 512, 30, 32_768).unwrap();
    let scorer = Scorer::new(&predictor, Encoding::Averaged, &space).unwrap();
    let latency = Scorer::new(&latency, Encoding::Averaged, &space).unwrap();
    let meter = Meter { latency: Some(latency), cost: &cost };
    let bounds = vec![median_latency(&meter, &space), f64::INFINITY, f64::INFINITY];
    criterion.bench_function("evolution", |b| {
        b.iter(|| {
            let settings = Settings::default();
            let mut evolution =
                Evolution::new(space.clone(), Encoding::Averaged, bounds.clone(), settings, 0).unwrap();
            run(&mut evolution, &scorer, &meter, 30, 1).unwrap();
            evolution.best()
        });
    });
}

fn median_latency(meter: &Meter, space: &Space) -> f64 {
    let genomes: Vec<u8> = (0..101).flat_map(|index| space.sample(&mut Stream::new(1, 0, index))).collect();
    let measures = meter.measure(space, &genomes, 1).unwrap();
    let mut latencies: Vec<f64> = measures.into_iter().step_by(3).collect();
    latencies.sort_by(f64::total_cmp);
    latencies[50]
}

fn quick() -> Criterion {
    Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .without_plots()
}

criterion_group!(name = core; config = quick(); targets = bench_peak, bench_forward, bench_genomes, bench_evolution);
criterion_main!(core);
