// The daemon's route trie written a second time in C: what the language costs, and what other widths would bring.
#ifndef SHUCK_BENCH_ROUTES_H
#define SHUCK_BENCH_ROUTES_H
#include <stddef.h>
#include <stdint.h>

// A root of 2^root words, then nodes of 2^stride: a word is a child (top bit) or a value.
struct routes_trie {
    uint32_t *words;
    // What values are numbers of, as large as the daemon's: kind, counts, nexthops.
    struct routes_record { uint8_t kind; uint8_t rest[11]; } records[64];
    size_t used, capacity;
    unsigned root, stride;
};

void routes_init(struct routes_trie *trie, unsigned root, unsigned stride);
void routes_free(struct routes_trie *trie);
// Prefixes must come by length, the shortest first. An IPv4 address stands in the upper half of high.
void routes_add(struct routes_trie *trie, uint64_t high, uint64_t low, unsigned length, uint32_t value);

static inline uint32_t routes_find4(const struct routes_trie *trie, uint32_t address) {
    const uint32_t *words = trie->words;
    unsigned shift = 32 - trie->root;
    uint32_t entry = words[address >> shift];
    while (entry >> 31) {
        shift -= 8;
        entry = words[(entry & 0x7fffffff) | (address >> shift & 255)];
    }
    return entry;
}

static inline uint32_t routes_find6(const struct routes_trie *trie, uint64_t high, uint64_t low) {
    const uint32_t *words = trie->words;
    uint32_t entry = words[high >> (64 - trie->root)];
    uint64_t bits = high << trie->root;
    unsigned left = 64 - trie->root, stride = trie->stride;
    while (entry >> 31) {
        if (left == 0) {
            bits = low;
            left = 64;
        }
        entry = words[(entry & 0x7fffffff) | bits >> (64 - stride)];
        bits <<= stride;
        left -= stride;
    }
    return entry;
}

// What the loops of the two languages do alike: `count` lookups; each next address depends on the
// answer before where `chained`. The sum of all kinds comes back.
uint64_t routes_run4(const struct routes_trie *trie, const uint32_t *addresses, size_t count, int chained);
// Addresses as pairs: high, low.
uint64_t routes_run6(const struct routes_trie *trie, const uint64_t *addresses, size_t count, int chained);
#endif
