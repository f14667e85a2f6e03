/* The Ricker model as a program for sf.command_simulator(["./ricker"], prior):  cc -O2 -o ricker ricker.c -lm
 *
 *   reads   {"seed": 1, "theta": {"log_r": 3.8, "sigma": 0.3, "rho": 10.0}}        one request a line
 *   writes  {"y": [12, 0, 1, ...]}                                                one answer a line
 *
 * Only answers go to stdout; use fprintf(stderr, ...) for anything else.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>

enum { STEPS = 100 };

static uint64_t state;

/* Uniform on (0, 1) by SplitMix64 (Steele, Lea & Flood 2014); use your library's generator, seeded with the request's seed. */
static double uniform(void) {
    uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return ((double)((z ^ (z >> 31)) >> 11) + 0.5) / 9007199254740992.0;
}

static double normal(void) {
    double radius = sqrt(-2 * log(uniform()));
    return radius * cos(2 * acos(-1) * uniform());
}

/* The number of arrivals by time `mean`, where the waits between them are exponential. */
static long poisson(double mean) {
    long count = -1;
    for (double time = 0; time <= mean; time -= log(uniform()))
        count++;
    return count;
}

int main(void) {
    char request[4096];
    unsigned long seed;
    double log_r, sigma, rho;
    while (fgets(request, sizeof request, stdin)) {
        if (sscanf(request, "{\"seed\": %lu, \"theta\": {\"log_r\": %lf, \"sigma\": %lf, \"rho\": %lf}}", &seed, &log_r, &sigma, &rho) != 4) {
            fprintf(stderr, "cannot read the request %s", request);
            return 1;
        }
        state = seed;
        double n = 1; /* N_{t+1} = r N_t exp(-N_t + sigma e_t), N_0 = 1; counts are Poisson(rho N_t), from the first transition on */
        printf("{\"y\": [");
        for (int t = 0; t < STEPS; t++) {
            n *= exp(log_r - n + sigma * normal());
            printf(t ? ", %ld" : "%ld", poisson(rho * n));
        }
        printf("]}\n");
        fflush(stdout); /* without it, the answer stays in a buffer and the other side waits for ever */
    }
    return 0;
}
