// The daemon's route tries read by C: what the language costs. A builder of the same forms, for tables that
// do not change; Sources/Routing/RouteTrie.swift says what they are.
#ifndef SHUCK_BENCH_ROUTES_H
#define SHUCK_BENCH_ROUTES_H
#include <stddef.h>
#include <stdint.h>

// A word is a child (top bit, form, index), or a prefix's length and value.
#define ROUTES_CHILD 0x80000000u
#define ROUTES_INDEX 0x1fffffffu
#define ROUTES_VALUE 0x7fffffu
enum { ROUTES_HIGH = 4, ROUTES_LOW, ROUTES_WHOLE, ROUTES_RANGES };

struct routes_trie {
    uint32_t *words;
    // What values are numbers of, as large as the daemon's: kind, counts, nexthops.
    struct routes_record { uint8_t kind; uint8_t rest[15]; } records[64];
    size_t used, capacity;
    unsigned root;
};

struct routes_prefix {
    // An IPv4 address stands in the upper half of high.
    uint64_t high, low;
    uint32_t length, value;
};

// Prefixes must come by length, the shortest first.
void routes_init4(struct routes_trie *trie, unsigned root, const struct routes_prefix *prefixes, size_t count);
// With a root of 16 bits.
void routes_init6(struct routes_trie *trie, const struct routes_prefix *prefixes, size_t count);

// The value of the longest prefix that holds the address; 0: none.
uint32_t routes_find4(const struct routes_trie *trie, uint32_t address);
uint32_t routes_find6(const struct routes_trie *trie, uint64_t high, uint64_t low);

// What the loops of the two languages do alike: `count` lookups; of each answer, which is 1, the bits of
// `mask` are added to the next address, so that it waits for them; 0: it does not. The sum of all kinds.
uint64_t routes_run4(const struct routes_trie *trie, const uint32_t *addresses, size_t count, uint32_t mask);
// Addresses as pairs: high, low.
uint64_t routes_run6(const struct routes_trie *trie, const uint64_t *addresses, size_t count, uint32_t mask);
#endif
