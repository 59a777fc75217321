/* Chains of fused multiply-adds, enough of them that none waits for another: as many as a processor can do. */

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX2__)
#define BYTES 32
#else
#define BYTES 16
#endif

typedef float lanes __attribute__((vector_size(BYTES)));

enum { N_LANES = BYTES / sizeof(float), N_CHAINS = 12 };

/* FLOPs of one step. */
long flop_per_step(void) { return 2 * N_LANES * N_CHAINS; }

/* Runs n_steps of every chain; returns a number that depends on all of them, so that none is left out. */
float chains(long n_steps, float factor, float term) {
  lanes a, b, s[N_CHAINS];
  for (int lane = 0; lane < N_LANES; lane++) a[lane] = factor, b[lane] = term;
  for (int chain = 0; chain < N_CHAINS; chain++) s[chain] = b * (float)(chain + 1);
  for (long step = 0; step < n_steps; step++)
#pragma GCC unroll 12
    for (int chain = 0; chain < N_CHAINS; chain++) s[chain] = s[chain] * a + b;
  float sum = 0;
  for (int chain = 0; chain < N_CHAINS; chain++)
    for (int lane = 0; lane < N_LANES; lane++) sum += s[chain][lane];
  return sum;
}
