// See routes.h.
#include "routes.h"

#include <stdlib.h>
#include <string.h>

void routes_init(struct routes_trie *trie, unsigned root, unsigned stride) {
    trie->root = root;
    trie->stride = stride;
    trie->used = (size_t)1 << root;
    trie->capacity = trie->used * 2;
    trie->words = calloc(trie->capacity, 4);
    if (!trie->words) abort();
    memset(trie->records, 0, sizeof trie->records);
    for (int i = 1; i < 64; i++) trie->records[i].kind = 1;
}

void routes_free(struct routes_trie *trie) { free(trie->words); }

static uint32_t bits(uint64_t high, uint64_t low, unsigned depth, unsigned width) {
    uint64_t word = depth < 64 ? high : low;
    return (uint32_t)(word >> (64 - depth % 64 - width)) & ((1u << width) - 1);
}

static uint32_t node(struct routes_trie *trie, uint32_t fill) {
    size_t size = (size_t)1 << trie->stride;
    if (trie->used + size > trie->capacity) {
        trie->capacity *= 2;
        trie->words = realloc(trie->words, trie->capacity * 4);
        if (!trie->words) abort();
    }
    uint32_t first = (uint32_t)trie->used;
    for (size_t i = 0; i < size; i++) trie->words[first + i] = fill;
    trie->used += size;
    return first;
}

void routes_add(struct routes_trie *trie, uint64_t high, uint64_t low, unsigned length, uint32_t value) {
    unsigned depth = 0, width = trie->root;
    uint32_t base = 0;
    while (length > depth + width) {
        uint32_t place = base + bits(high, low, depth, width);
        if (!(trie->words[place] >> 31)) {
            uint32_t child = node(trie, trie->words[place]);
            trie->words[place] = child | 0x80000000u;
        }
        base = trie->words[place] & 0x7fffffff;
        depth += width;
        width = trie->stride;
    }
    unsigned rest = length - depth;
    uint32_t first = base + bits(high, low, depth, width);
    first &= ~((1u << (width - rest)) - 1);
    for (uint32_t i = 0; i < 1u << (width - rest); i++)
        if (!(trie->words[first + i] >> 31)) trie->words[first + i] = value;
}

uint64_t routes_run4(const struct routes_trie *trie, const uint32_t *addresses, size_t count, int chained) {
    uint64_t sum = 0;
    uint32_t last = 0;
    // A kind shifted right adds nothing but the dependence.
    for (size_t i = 0; i < count; i++) {
        uint32_t address = chained ? addresses[i] + (last >> 8) : addresses[i];
        last = trie->records[routes_find4(trie, address)].kind;
        sum += last;
    }
    return sum;
}

uint64_t routes_run6(const struct routes_trie *trie, const uint64_t *addresses, size_t count, int chained) {
    uint64_t sum = 0;
    uint32_t last = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t high = chained ? addresses[2 * i] + (last >> 8) : addresses[2 * i];
        last = trie->records[routes_find6(trie, high, addresses[2 * i + 1])].kind;
        sum += last;
    }
    return sum;
}
